"""Merge models into a folder with a model card, into tensors, or into a loaded model.

models = (InputModel("law", folder, parameters={"weight": 0.8}),)
report = run(plan(MergeRequest("ties", models, base=InputModel("base", other))), output)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpt.errors import CannotMerge
from cpt.models.architecture import StoredNames
from cpt.models.new_tokens import write_new_tokens
from cpt.models.vocabulary import check_shapes
from merging.align import Alignment
from merging.plan import Plan
from merging.request import InputModel
from merging.writer import (
    atomic_model_folder,
    shards,
    size_of,
    write_checksums,
    write_settings,
    write_weights,
)


def model_card(
    plan: Plan, fingerprints: Mapping[str, str], command: str | None = None, chosen: str | None = None
) -> str:
    """README.md of a merge.

    Args:
        fingerprints: of the parents' contents, by name.
        command: what makes the same model again.
        chosen: how the parameters were chosen.
    """
    request, method = plan.request, plan.method
    names = sorted({name for model in request.models for name in model.parameters})
    reference = f"[{method.name}]({method.reference})" if "://" in method.reference else method.name
    lines = [
        "---",
        "library_name: transformers",
        "tags: [merge]",
        "---",
        "",
        "# Merged model",
        "",
        f"Made by {reference}: {method.line}.",
        *([f"{request.about}."] if request.about else []),
        "",
        "| " + " | ".join(["Model", *(_title(name) for name in names), "Fingerprint"]) + " |",
        "|" + "---|" * (len(names) + 2),
        *(
            _row(parent, names, fingerprints[parent.name], parent is request.base)
            for parent in request.inputs
        ),
        "",
        *_settings(plan),
        *(_rows(plan.alignment) if plan.alignment else ()),
        *([f"- {plan.reach_note}"] if plan.reach_note else []),
        *(f"- {note}: the result is as {plan.vocabulary_of.name}" for note in plan.notes),
    ]
    if chosen is not None:
        lines += ["", chosen]
    if command is not None:
        lines += ["", "Made again by:", "", "```", command, "```"]
    return "\n".join(lines).rstrip() + "\n"


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _row(parent: InputModel, names: list[str], fingerprint: str, is_base: bool) -> str:
    cells = [_cell(parent.parameters, name) for name in names]
    if is_base:
        cells = ["base", *([""] * (len(names) - 1))][: len(names)]
    name = f"{parent.name} (base)" if is_base and not names else parent.name
    return "| " + " | ".join([name, *cells, f"`{fingerprint}`"]) + " |"


def _cell(parameters: Mapping[str, Any], name: str) -> str:
    if name not in parameters:
        return ""
    value = parameters[name]
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _settings(plan: Plan) -> list[str]:
    request = plan.request
    said = {name: json.dumps(value) for name, value in sorted(request.parameters.items())}
    said["vocabulary"] = plan.vocabulary_of.name if plan.tokenizer is None else "union"
    if request.chat_template is None:
        said["chat template and generation settings"] = plan.settings_of.name
    else:
        said["chat template"] = "one of its own"
        said["generation settings"] = plan.settings_of.name
    said["data type"] = str(plan.dtype).removeprefix("torch.")
    if plan.method.random:
        said["seed"] = str(request.seed)
    return [f"- {name}: {value}" for name, value in said.items()]


def _rows(alignment: Alignment) -> list[str]:
    counts = ", ".join(f"{count:,} {case}" for case, count in alignment.counts().items())
    dropped = [f"- {len(tokens):,} tokens of {name} left out" for name, tokens in alignment.dropped.items()]
    return [f"- rows of the vocabulary: {counts}", *dropped]


SHARD_BYTES = 5_000_000_000
ROWS = "merge_rows.json"
"""In the result, if the vocabularies differed: what was done with which rows."""


@dataclass(frozen=True)
class MergeReport:
    """What was merged.

    Attributes:
        vocabulary_of: the parent whose vocabulary, configuration and tokenizer the result has; "union".
        settings_of: the parent whose chat template and generation settings it has.
        rows: rows of the result's embedding.
        rows_from_models: rows that the base lacks.
        rows_by_case: what was done with how many rows; empty where all vocabularies are the same.
        dropped: by parent how many of its tokens the result lacks.
        out_of_reach: tokens that a union adds and that its tokenizer never makes of a text.
        new_tokens: tokens that are new in every parent that has them.
        parameters: numbers that were merged.
        dtype: data type of the result.
        notes: what differs between the parents, and what is out of reach.
        checksums: SHA-256 by file.
    """

    method: str
    vocabulary_of: str
    settings_of: str
    rows: int
    rows_from_models: int
    rows_by_case: Mapping[str, int]
    dropped: Mapping[str, int]
    out_of_reach: int
    new_tokens: int
    parameters: int
    dtype: str
    notes: tuple[str, ...]
    checksums: Mapping[str, str]


def run(
    plan: Plan,
    output: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    command: str | None = None,
    chosen: str | None = None,
    fingerprints: Future[Mapping[str, str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Merge into a Hugging Face folder, which is there whole or not at all.

    It is written beside its place, under a hidden name, flushed to the disk and renamed. What a killed merge
    left there is removed first.

    Args:
        output: must not exist, or be empty.
        shard_bytes: size at which the weights go on in another file.
        command: what makes the same model again, for the model card.
        chosen: how the parameters were chosen, for the model card.
        fingerprints: the parents' fingerprints by name, which are read while the merge goes on; None for
            those of the request. Where they cannot be had, the merge ends.
        progress: called with the bytes that are done and their sum.

    Raises:
        CannotMerge: there is something at `output`, or its folder cannot be written to.
        DataError: a model's weights are damaged.
        DiskFull: the result does not fit on the disk.
    """
    layout = shards(plan.tensors, shard_bytes)
    total = sum(size_of(tensor) for tensor in plan.tensors)
    with atomic_model_folder(Path(output), total) as aside:
        done = 0
        checksums: dict[str, str] = {}
        for tensor in write_weights(aside, layout, checksums):
            done += size_of(tensor)
            if fingerprints is not None and fingerprints.done():
                fingerprints.result()
            if progress is not None:
                progress(done, total)
        write_settings(plan, aside)
        if plan.new_tokens:
            write_new_tokens(aside, plan.new_tokens)
        if plan.alignment is not None:
            listing = plan.alignment.listing()
            if plan.tokenizer is not None:
                listing |= {"added tokens": len(plan.added_tokens), "out of reach": list(plan.out_of_reach)}
            text = json.dumps(listing, ensure_ascii=False, indent=1)
            (aside / ROWS).write_text(text + "\n", encoding="utf-8")
            check_shapes(aside)
        marks = (
            fingerprints.result()
            if fingerprints
            else {each.name: each.fingerprint for each in plan.request.inputs}
        )
        (aside / "README.md").write_text(model_card(plan, marks, command, chosen), encoding="utf-8")
        checksums = write_checksums(aside, checksums)
    return _report(plan, checksums)


def merged_tensors(plan: Plan) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the result by its stored name, one at a time, each of its own data type."""
    for tensor in plan.tensors:
        yield tensor.name, tensor.merged()


def merge_into(model: Any, plan: Plan) -> None:
    """Overwrite a loaded model's weights with the merge; they keep the model's data type and device.

    Args:
        model: a transformers model with the result's shapes, such as a parent with the result's vocabulary.

    Raises:
        CannotMerge: the model has no place for a tensor, or one of another shape.
    """
    places = _places(model, plan)
    with torch.no_grad():
        for name, tensor in merged_tensors(plan):
            places[name].copy_(tensor)


def _places(model: Any, plan: Plan) -> dict[str, torch.Tensor]:
    """A model's parameters by the names under which the result stores them."""
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    parents = plan.vocabulary_of.sources
    names = StoredNames(model, {name: parents[name] for name in shapes if name in parents})  # type: ignore[misc]
    state = model.state_dict()
    places = {stored: state[name] for name in state if (stored := names.of(name)) is not None}
    problems = [
        f"the model has no parameter for {name} of shape {list(shape)}"
        for name, shape in shapes.items()
        if name not in places or tuple(places[name].shape) != shape
    ]
    if problems:
        raise CannotMerge(problems, hint="Load a parent with the vocabulary of the result.")
    return places


def _report(plan: Plan, checksums: Mapping[str, str]) -> MergeReport:
    alignment, base = plan.alignment, plan.request.base
    return MergeReport(
        method=plan.method.name,
        vocabulary_of=plan.vocabulary_of.name if plan.tokenizer is None else "union",
        settings_of=plan.settings_of.name,
        rows=plan.rows,
        rows_from_models=alignment.lacking[base.name] if alignment and base else 0,
        rows_by_case=alignment.counts() if alignment else {},
        dropped={name: len(tokens) for name, tokens in alignment.dropped.items()} if alignment else {},
        out_of_reach=len(plan.out_of_reach),
        new_tokens=len(plan.new_tokens),
        parameters=plan.parameters,
        dtype=str(plan.dtype).removeprefix("torch."),
        notes=(*plan.notes, *filter(None, [plan.reach_note])),
        checksums=checksums,
    )
