"""FineWeb's rules by datatrove: each limit counts, and the reason is named."""

from __future__ import annotations

from typing import Any

import pytest
from blocks import reason

from cpt.corpus.blocks.fineweb import FineWeb

LINES = [f"This is line number {number} of a document, and it is long enough." for number in range(9)]


def test_prose_stays() -> None:
    assert reason(FineWeb(), "\n".join(LINES)) is None


@pytest.mark.parametrize(
    ("text", "detail", "loose"),
    [
        ("\n".join(line[:-1] for line in LINES), "line_punct_ratio", {"min_punctuated_lines": None}),
        ("\n".join(line[:-1] for line in LINES), "line_punct_ratio", {"min_punctuated_lines": 0}),
        ("Acute pain in the chest.", "short_line_ratio", {"max_short_lines": None}),
        ("Acute pain in the chest.", "short_line_ratio", {"short_line": 20}),
        ("\n".join([*LINES, LINES[0]]), "char_dup_ratio", {"max_repeated_characters": None}),
        ("\n".join([*LINES, LINES[0]]), "char_dup_ratio", {"max_repeated_characters": 0.2}),
        (
            "\n".join("Immunoglobulins_and_their_concentrations." for _ in "ab"),
            "list_ratio",
            {"max_line_breaks": 1},
        ),
    ],
)
def test_rules(text: str, detail: str, loose: dict[str, Any]) -> None:
    off = {"max_repeated_characters": None} if detail == "list_ratio" else {}
    limit = {"max_line_breaks": 0.2} if detail == "list_ratio" else {}
    assert reason(FineWeb(**{**off, **limit}), text) == detail
    assert reason(FineWeb(**{**off, **loose}), text) is None


@pytest.mark.parametrize("text", ["\x1c", "\u200b", ".", "\n \n"])
def test_text_without_words_raises_nothing(text: str) -> None:
    FineWeb().prepare()
    reason(FineWeb(), text)
