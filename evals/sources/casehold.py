"""CaseHOLD: which holding a US court opinion cites a case for (Zheng et al. 2021, arXiv:2104.08671)."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_csv

_ITEMS = {"train": 45_000, "validation": 3_900, "test": 3_600}
_CHOICES = 5


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of coastalcph/lex_glue, case_hold: contexts (five times the excerpt), endings, label.

    LexGLUE's splits are the file's rows in order (Chalkidis et al. 2022, arXiv:2110.00976).
    """
    del part
    rows = [_row(record) for record in read_csv(files["all"], columns=13)[1:]]
    if len(rows) != sum(_ITEMS.values()):
        raise DataError(f"{files['all']}: {len(rows)} items; LexGLUE's file has {sum(_ITEMS.values())}")
    splits: dict[str, Rows] = {}
    for split, count in _ITEMS.items():
        splits[split], rows = rows[:count], rows[count:]
    return splits


def _row(record: list[str]) -> dict[str, object]:
    _, excerpt, *rest, label = record
    if label not in {str(choice) for choice in range(_CHOICES)}:
        raise DataError(f"item {record[0]}: the label is {label!r}, not 0 to {_CHOICES - 1}")
    return {"contexts": [excerpt] * _CHOICES, "endings": rest[:_CHOICES], "label": int(label)}


SOURCE = Source(
    name="casehold",
    title="CaseHOLD",
    licence="CC BY 4.0 (as part of LexGLUE)",
    origin="https://zenodo.org/record/5532997, casehold.tar.gz; Zheng et al. 2021, arXiv:2104.08671",
    files={"all": "casehold.csv"},
    read=read,
)
