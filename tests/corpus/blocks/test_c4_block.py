"""C4's rules by datatrove: each setting counts, lines that go are gone, the reason is named."""

from __future__ import annotations

from typing import Any

import pytest
from blocks import reason, text_after
from pydantic import ValidationError

from cpt.corpus.blocks.c4 import C4

GOOD = [f"This is sentence number {number} of the text." for number in range(6)]


def test_sentences_stay() -> None:
    assert reason(C4(), "\n".join(GOOD)) is None


@pytest.mark.parametrize(
    ("line", "loose"),
    [
        ("A heading without an end", {"end_punctuation": False}),
        ("Two words.", {"min_words": None}),
        (f"A long {'x' * 1001} word.", {"max_word_length": None}),
        ("Please enable JavaScript here.", {"javascript": False}),
        ("This site uses cookies to work.", {"policies": False}),
    ],
)
def test_lines_that_go(line: str, loose: dict[str, Any]) -> None:
    text = "\n".join([*GOOD, line])
    assert text_after(C4(), text) == "\n".join(GOOD)
    assert text_after(C4(**loose), text) == text


def test_marks_of_citations() -> None:
    text = "\n".join([*GOOD, "Water boils.[12] It does so[citation needed] at 100 degrees."])
    assert text_after(C4(), text).endswith("Water boils. It does so at 100 degrees.")
    assert text_after(C4(citations=False), text) == text


@pytest.mark.parametrize(
    ("text", "detail", "loose"),
    [
        ("One sentence is here. A second is there.", "too_few_sentences", {"min_sentences": 2}),
        ("One sentence is here. A second is there.", "too_few_sentences", {"min_sentences": None}),
        ("\n".join([*GOOD, "Here is lorem ipsum text."]), "lorem_ipsum", {"lorem_ipsum": False}),
        ("\n".join([*GOOD, "The set {1, 2} is small."]), "curly_bracket", {"braces": False}),
    ],
)
def test_documents_that_go(text: str, detail: str, loose: dict[str, Any]) -> None:
    assert reason(C4(), text) == detail
    assert reason(C4(**loose), text) is None


def test_what_the_schema_refuses() -> None:
    with pytest.raises(ValidationError):
        C4(min_sentences=0)
