"""Control characters from outside become visible; everything else stays as it is."""

from __future__ import annotations

import json

import pytest

from cpt.escaping import escape_controls, escape_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x00\x07\r", r"\x00\x07\x0d"),
        ("\x7f\x9b31m", r"\u007f\u009b31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("\udc9b", r"\udc9b"),
        ("tabs\tand\nlines, ümlauts, 中文, עברית, 👍", "tabs\tand\nlines, ümlauts, 中文, עברית, 👍"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


def test_a_line_stays_one_line() -> None:
    assert escape_line("a\n12:00:00 done") == r"a\n12:00:00 done"


def test_json_stays_json_with_the_same_content() -> None:
    data = {"\x9b": ["\x1b", "\x7f", "\u202e", "\u2069", "ü"]}
    text = escape_controls(json.dumps(data, ensure_ascii=False))
    assert json.loads(text) == data
    assert text.isprintable()
