"""PIQA: two ways to an everyday goal (Bisk et al. 2019, arXiv:1911.11641)."""

from __future__ import annotations

from collections.abc import Mapping

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of baber/piqa: goal, sol1, sol2, label (0 or 1)."""
    del part
    items = read_jsonl(files["items"])
    labels = files["labels"].read_text(encoding="utf-8").split()
    rows = [
        {**{key: item[key] for key in ("goal", "sol1", "sol2")}, "label": ["0", "1"].index(label)}
        for item, label in zip(items, labels, strict=True)
    ]
    return {"validation": rows}


SOURCE = Source(
    name="piqa",
    title="PIQA",
    licence="AFL 3.0",
    origin="https://github.com/ybisk/ybisk.github.io, piqa/data; Bisk et al. 2019, arXiv:1911.11641",
    files={"items": "piqa/valid.jsonl", "labels": "piqa/valid-labels.lst"},
    read=read,
)
