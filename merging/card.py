"""The model card of a merged model."""

from __future__ import annotations

from collections.abc import Sequence

_REFERENCES = {"task-arithmetic": "https://arxiv.org/abs/2212.04089"}


def model_card(method: str, parents: Sequence[tuple[str, float | None, str]]) -> str:
    """README.md of a merge.

    Args:
        method: name of the merge method.
        parents: (name, weight, fingerprint) of each model; the base has no weight.
    """
    rows = [
        f"| {name} | {'base' if weight is None else f'{weight:g}'} | `{fingerprint}` |"
        for name, weight, fingerprint in parents
    ]
    lines = [
        "---",
        "library_name: transformers",
        "tags: [merge]",
        "---",
        "",
        "# Merged model",
        "",
        f"Made by [{method}]({_REFERENCES[method]}): base + Σ weight · (model - base).",
        "",
        "| Model | Weight | Fingerprint |",
        "|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)
