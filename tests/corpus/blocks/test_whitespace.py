"""White space is made uniform, and nothing else is touched."""

from __future__ import annotations

import pytest

from cpt.corpus.blocks.whitespace import Whitespace
from cpt.corpus.documents import Document


def cleaned(text: str, **settings: int) -> str:
    found = Whitespace(**settings).prepare()(Document("a:1", text))
    assert isinstance(found, Document)
    return found.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("a  b \t c\u00a0\u00a0d  ", "a b c d"),
        ("    indented  code", "    indented code"),
        ("\n\nfirst\n\n\n\nsecond\n", "first\n\nsecond"),
        ("  \n \t \nonly", "only"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_runs_and_line_ends(text: str, expected: str) -> None:
    assert cleaned(text) == expected
    assert cleaned(expected) == expected


def test_the_number_of_empty_lines_counts() -> None:
    text = "a\n\n\n\nb"
    assert [cleaned(text, empty_lines=most) for most in range(4)] == ["a\nb", "a\n\nb", "a\n\n\nb", text]


def test_clean_text_stays_the_same_object() -> None:
    document = Document("a:1", "clean\n\ntext", ended=False)
    assert Whitespace().prepare()(document) is document
