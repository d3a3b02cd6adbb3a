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
from cpt.models.loading import StoredNames
from cpt.models.token_ids import write_new_tokens
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
    """Return the model card (README.md) of a merge.

    Args:
        plan: Merge that is described.
        fingerprints: Fingerprints of the inputs' contents by name.
        command: Command that makes the same model again.
        chosen: Sentence on how the parameters were chosen.
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
        *(_row(model, names, fingerprints[model.name], model is request.base) for model in request.inputs),
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


def _row(model: InputModel, names: list[str], fingerprint: str, is_base: bool) -> str:
    cells = [_cell(model.parameters, name) for name in names]
    if is_base:
        cells = ["base", *([""] * (len(names) - 1))][: len(names)]
    name = f"{model.name} (base)" if is_base and not names else model.name
    return "| " + " | ".join([name, *cells, f"`{fingerprint}`"]) + " |"


def _cell(parameters: Mapping[str, Any], name: str) -> str:
    if name not in parameters:
        return ""
    value = parameters[name]
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _settings(plan: Plan) -> list[str]:
    request = plan.request
    shown = {name: json.dumps(value) for name, value in sorted(request.parameters.items())}
    shown["vocabulary"] = plan.vocabulary_of.name if plan.tokenizer is None else "union"
    if request.chat_template is None:
        shown["chat template and generation settings"] = plan.settings_of.name
    else:
        shown["chat template"] = "one of its own"
        shown["generation settings"] = plan.settings_of.name
    shown["data type"] = str(plan.dtype).removeprefix("torch.")
    if plan.method.random:
        shown["seed"] = str(request.seed)
    return [f"- {name}: {value}" for name, value in shown.items()]


def _rows(alignment: Alignment) -> list[str]:
    counts = ", ".join(f"{count:,} {case}" for case, count in alignment.counts().items())
    dropped = [f"- {len(tokens):,} tokens of {name} left out" for name, tokens in alignment.dropped.items()]
    return [f"- rows of the vocabulary: {counts}", *dropped]


SHARD_BYTES = 5_000_000_000
ROWS = "merge_rows.json"
"""File in the result with the origin of all rows, if the vocabularies differ."""


@dataclass(frozen=True)
class MergeReport:
    """A report on a merge.

    Attributes:
        method: Name of the method.
        vocabulary_of: Input whose vocabulary, configuration and tokenizer the result has; or "union".
        settings_of: Input whose chat template and generation settings the result has.
        rows: Number of rows of the result's embedding.
        rows_from_models: Number of rows that the base lacks.
        rows_by_case: Number of rows by treatment; empty where all vocabularies are the same.
        dropped: Number of an input's tokens that the result lacks, by input.
        out_of_reach: Number of tokens that a union adds and that its tokenizer never produces.
        new_tokens: Number of tokens that are new in every input that has them.
        parameters: Number of the result's parameters.
        dtype: Data type of the result.
        notes: Differences between the inputs, and tokens that are out of reach.
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
    """Merge into a Hugging Face folder, which is written whole or not at all.

    The folder is written beside its place under a hidden name, flushed to the disk, and renamed. Remains of a
    killed merge are removed first.

    Args:
        plan: Merge to run.
        output: Folder that does not exist or is empty.
        shard_bytes: Size at which a new weight file begins.
        command: Command that makes the same model again, for the model card.
        chosen: Sentence on how the parameters were chosen, for the model card.
        fingerprints: Fingerprints of the inputs by name, read during the merge; None for those of the
            request. If they cannot be read, the merge fails.
        progress: Called with the bytes that are done and the bytes in all.

    Raises:
        CannotMerge: There is something at `output`, or its folder cannot be written to.
        DataError: A model's weights are damaged.
        DiskFull: The result does not fit on the disk.
    """
    layout = shards(plan.tensors, shard_bytes)
    total = sum(size_of(tensor) for tensor in plan.tensors)
    with atomic_model_folder(Path(output), total) as staging:
        done = 0
        checksums: dict[str, str] = {}
        for tensor in write_weights(staging, layout, checksums):
            done += size_of(tensor)
            if fingerprints is not None and fingerprints.done():
                fingerprints.result()
            if progress is not None:
                progress(done, total)
        write_settings(plan, staging)
        if plan.new_tokens:
            write_new_tokens(staging, plan.new_tokens)
        if plan.alignment is not None:
            listing = plan.alignment.listing()
            if plan.tokenizer is not None:
                listing |= {"added tokens": len(plan.added_tokens), "out of reach": list(plan.out_of_reach)}
            text = json.dumps(listing, ensure_ascii=False, indent=1)
            (staging / ROWS).write_text(text + "\n", encoding="utf-8")
            check_shapes(staging)
        marks = (
            fingerprints.result()
            if fingerprints
            else {each.name: each.fingerprint for each in plan.request.inputs}
        )
        (staging / "README.md").write_text(model_card(plan, marks, command, chosen), encoding="utf-8")
        checksums = write_checksums(staging, checksums)
    return _report(plan, checksums)


def merged_tensors(plan: Plan) -> Iterator[tuple[str, torch.Tensor]]:
    """Compute every tensor of the result with its stored name, one at a time."""
    for tensor in plan.tensors:
        yield tensor.name, tensor.merged()


def merge_into(model: Any, plan: Plan) -> None:
    """Overwrite a loaded model's weights with the merge; they keep the model's data type and device.

    Args:
        model: transformers model with the result's shapes, such as an input with the result's vocabulary.
        plan: Merge to run.

    Raises:
        CannotMerge: The model has no parameter for a tensor, or one of another shape.
    """
    places = _places(model, plan)
    with torch.no_grad():
        for name, tensor in merged_tensors(plan):
            places[name].copy_(tensor)


def _places(model: Any, plan: Plan) -> dict[str, torch.Tensor]:
    """Return a model's parameters by the names under which the result stores them."""
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    sources = plan.vocabulary_of.sources
    names = StoredNames(model, {name: sources[name] for name in shapes if name in sources})  # type: ignore[misc]
    state = model.state_dict()
    places = {stored: state[name] for name in state if (stored := names.of(name)) is not None}
    problems = [
        f"the model has no parameter for {name} of shape {list(shape)}"
        for name, shape in shapes.items()
        if name not in places or tuple(places[name].shape) != shape
    ]
    if problems:
        raise CannotMerge(problems, hint="Load a model with the vocabulary of the result.")
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
