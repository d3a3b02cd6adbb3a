"""MedQA, US: questions of the medical licensing examination with four options (Jin et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl

_LETTERS = "ABCD"


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of GBaker/MedQA-USMLE-4-options-hf: sent1, ending0 to ending3, label."""
    del part
    return {split: [_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    options = item["options"]
    if sorted(options) != list(_LETTERS) or options.get(item["answer_idx"]) != item["answer"]:
        raise DataError(f"{item['question'][:60]!r} …: its options are not A to D, or not with its answer")
    endings = {f"ending{place}": options[letter] for place, letter in enumerate(_LETTERS)}
    return {"sent1": item["question"], **endings, "label": _LETTERS.index(item["answer_idx"])}


SOURCE = Source(
    name="medqa",
    title="MedQA (USMLE, four options)",
    licence="MIT",
    origin="https://github.com/jind11/MedQA; Jin et al. 2020, arXiv:2009.13081",
    files={"test": "US/4_options/phrases_no_exclude_test.jsonl"},
    read=read,
)
