"""The model card of a merged model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from merging.align import Alignment
from merging.plan import Plan
from merging.request import InputModel


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
            for parent in request.parents
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
