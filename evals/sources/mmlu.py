"""MMLU: four-way questions of 57 subjects (Hendrycks et al. 2021, arXiv:2009.03300)."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_csv

_LETTERS = ("A", "B", "C", "D")


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of cais/mmlu: question, subject, choices, answer (index of the right choice)."""
    rows = {split: read_csv(file, columns=6) for split, file in files.items()}
    return {split: [_row(record, part) for record in records] for split, records in rows.items()}


def _row(record: list[str], subject: str | None) -> dict[str, object]:
    question, *choices, letter = record
    if letter not in _LETTERS:
        raise DataError(f"the answer of {question!r} is {letter!r}, not one of A, B, C, D")
    return {"question": question, "subject": subject, "choices": choices, "answer": _LETTERS.index(letter)}


SOURCE = Source(
    name="mmlu",
    title="MMLU",
    licence="MIT",
    origin="https://github.com/hendrycks/test; Hendrycks et al. 2021, arXiv:2009.03300",
    files={"dev": "dev/{part}_dev.csv", "test": "test/{part}_test.csv"},
    read=read,
)
