"""Financial PhraseBank: sentences of financial news with their sentiment (Malo et al. 2014, JASIST 65(4)).

The file with all 4,846 sentences on whose label at least half of the annotators agreed. Its authors give no
split; a fifth is asked about and the rest are examples, in the proportion of BloombergGPT and FLARE (3,876
and 970; their own draws are not published with the file).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source

LABELS = ("positive", "negative", "neutral")
_PARTS = 5


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of TheFinAI/flare-fpb that the task reads: text, choices, gold (index), answer.

    A sentence's own hash decides on its split, so that one that occurs twice is not in both.
    """
    rows = [_row(line, number, files["sentences"]) for number, line in _lines(files["sentences"])]
    test = [_asked(row["text"]) for row in rows]
    return {
        "train": [row for row, asked in zip(rows, test, strict=True) if not asked],
        "test": [row for row, asked in zip(rows, test, strict=True) if asked],
    }


def _lines(file: Path) -> list[tuple[int, str]]:
    """Numbered lines; the authors' own file is in ISO 8859-1, copies of it are in UTF-8."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("iso-8859-1")
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _row(line: str, number: int, file: Path) -> dict[str, object]:
    sentence, mark, label = line.strip().rpartition("@")
    if not mark or label not in LABELS:
        reason = "not a sentence, @ and one of " + ", ".join(LABELS)
        raise DataError(str(Problem(reason, file=str(file), line=number)))
    return {
        "text": sentence.strip(),
        "choices": list(LABELS),
        "gold": LABELS.index(label),
        "answer": label,
    }


def _asked(sentence: object) -> bool:
    digest = hashlib.sha256(str(sentence).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _PARTS == 0


SOURCE = Source(
    name="fpb",
    title="Financial PhraseBank, 50 % agreement",
    licence="CC BY-NC-SA 3.0",
    origin="Malo et al. 2014, Good debt or bad debt, JASIST 65(4); FinancialPhraseBank-v1.0",
    files={"sentences": "Sentences_50Agree.txt"},
    read=read,
)
