"""Golden Touchstone, English: instructions, inputs and outputs (Wu et al. 2024, arXiv:2411.06272)."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_json

_COLUMNS = ("instruction", "input", "output")


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of IDEA-FinAI/Golden-Touchstone: instruction, input, output, and `label` of a tagged file.

    The part is the file's folder and the beginning of its name: `finqa/finqa`.
    """
    rows = read_json(files["test"])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= set(_COLUMNS) for row in rows
    ):
        reason = "not a list of objects with " + ", ".join(_COLUMNS)
        raise DataError(str(Problem(reason, file=str(files["test"]))))
    tagged = all(isinstance(row.get("label"), list) for row in rows)
    return {
        "test": [
            {**{name: str(row[name]) for name in _COLUMNS}, **({"label": row["label"]} if tagged else {})}
            for row in rows
        ]
    }


SOURCE = Source(
    name="golden_touchstone",
    title="Golden Touchstone, English",
    licence="Apache-2.0 (the collection; its data sets keep their own)",
    origin="https://huggingface.co/datasets/IDEA-FinAI/Golden-Touchstone; Wu et al. 2024, arXiv:2411.06272",
    files={"test": "EN-benchmark/{part}_test.json"},
    read=read,
    version=2,
)
