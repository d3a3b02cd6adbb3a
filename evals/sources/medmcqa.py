"""MedMCQA: questions of Indian medical entrance examinations (Pal et al. 2022, arXiv:2203.14371)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl

_TEXTS = ("question", "opa", "opb", "opc", "opd")
_OPTIONS = 4


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of openlifescienceai/medmcqa: question, opa to opd, cop (0 to 3).

    The authors' files count the correct option (cop) from 1, copies of the hub's from 0: which it is shows
    by the numbers that occur. The authors' test has no answers; their `dev` is the hub's `validation`.
    """
    del part
    items = {split: read_jsonl(file) for split, file in files.items()}
    first = _first_option([item["cop"] for rows in items.values() for item in rows])
    return {split: [_row(item, first) for item in rows] for split, rows in items.items()}


def _first_option(correct: Sequence[int]) -> int:
    """The number of option A."""
    found = set(correct)
    fitting = [first for first in (0, 1) if found <= set(range(first, first + _OPTIONS))]
    if len(fitting) != 1:
        raise DataError(
            f"cop is one of {sorted(found)}: neither numbers from 0 nor from 1"
            if not fitting
            else f"cop is one of {sorted(found)}: too few items to tell numbers from 0 from such from 1"
        )
    return fitting[0]


def _row(item: Mapping[str, Any], first: int) -> dict[str, object]:
    return {**{column: item[column] for column in _TEXTS}, "cop": item["cop"] - first}


SOURCE = Source(
    name="medmcqa",
    title="MedMCQA",
    licence="MIT",
    origin="https://github.com/medmcqa/medmcqa; Pal et al. 2022, arXiv:2203.14371",
    files={"validation": "medmcqa/dev.json"},
    read=read,
)
