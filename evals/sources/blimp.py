"""BLiMP: minimal pairs of 67 paradigms of English grammar (Warstadt et al. 2020, arXiv:1912.00582)."""

from __future__ import annotations

from collections.abc import Mapping
from zipfile import ZipFile

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import parse_jsonl

_COLUMNS = ("sentence_good", "sentence_bad", "field", "linguistics_term", "UID")


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of nyu-mll/blimp that tasks read; its one split is called `train`."""
    name = f"data/{part}.jsonl"
    with ZipFile(files["archive"]) as archive:
        lines = archive.read(name).decode("utf-8").split("\n")
    pairs = parse_jsonl(lines, f"{files['archive']}, {name}")
    return {"train": [{column: pair[column] for column in _COLUMNS} for pair in pairs]}


SOURCE = Source(
    name="blimp",
    title="BLiMP",
    licence="CC BY 4.0",
    origin="https://github.com/alexwarstadt/blimp; Warstadt et al. 2020, arXiv:1912.00582",
    files={"archive": "BLiMP.zip"},
    read=read,
)
