"""FOMC stance: sentences of the Federal Reserve, hawkish, dovish or neutral (Shah et al. 2023, ACL)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source

LABELS = 3


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of gtfintechlab/fomc_communication: sentence, year, label (0 dovish, 1 hawkish, 2 neutral)."""
    return {split: _rows(file) for split, file in files.items()}


def _rows(file: Path) -> Rows:
    rows: Rows = []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        for record in reader:
            try:
                label, year = int(record["label"]), int(record["year"])
                sentence = record["sentence"].strip()
            except (KeyError, TypeError, ValueError, AttributeError):
                label, year, sentence = -1, 0, ""
            if not sentence or not 0 <= label < LABELS:
                reason = "not a sentence, a year and a label of 0, 1, 2"
                raise DataError(str(Problem(reason, file=str(file), line=reader.line_num)))
            rows.append({"sentence": sentence, "year": year, "label": label})
    return rows


SOURCE = Source(
    name="fomc",
    title="FOMC stance (Trillion Dollar Words), the hub's two CSV files saved as train.csv and test.csv",
    licence="CC BY-NC 4.0",
    origin="https://huggingface.co/datasets/gtfintechlab/fomc_communication; Shah et al. 2023, "
    "arXiv:2305.07972",
    files={split: f"fomc_communication/{split}.csv" for split in ("train", "test")},
    read=read,
)
