"""Examples are bounded, independent of the order, and show where texts part."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cpt.corpus.examples import FILE, Example, Examples, read_examples, write_examples
from cpt.errors import DataError


def collected(ids: list[int]) -> list[str]:
    found = Examples("domain", most=5)
    for id in ids:
        found.add("gopher", f"file:{id}", "text", detail="short")
    return [example.id for example in found]


def test_the_same_few_whatever_the_order() -> None:
    ids = list(range(200))
    first = collected(ids)
    random.Random(1).shuffle(ids)
    assert collected(ids) == first
    assert len(first) == 5


def test_examples_of_one_document_are_the_same_whatever_the_order() -> None:
    rows = [("a", None, None), ("a", "", None), ("a", "b", None), ("b", None, None), ("a", None, "c")] * 2

    def kept(rows: list[tuple[str, str | None, str | None]], most: int) -> list[Example]:
        found = Examples("domain", most=most)
        for before, after, like in rows:
            found.add("gopher", "file:1", before, after, like=like)
        return list(found)

    for most in (3, 20):
        assert kept(rows, most) == kept(rows[::-1], most)


def test_texts_are_cut_around_their_first_difference(tmp_path: Path) -> None:
    found = Examples("domain")
    found.add("pii", "a:1", "x" * 5000 + "me@example.org", "x" * 5000 + "[EMAIL]")
    found.add("duplicate", "a:2", "y" * 5000)
    write_examples(tmp_path, list(found))
    removed, rewritten = read_examples(tmp_path)  # in the order of the blocks
    assert rewritten.before.endswith("xme@example.org")
    assert rewritten.after is not None
    assert rewritten.after.endswith("x[EMAIL]")
    assert (len(removed.before), removed.after) == (600, None)


def test_texts_may_hold_any_end_of_line(tmp_path: Path) -> None:
    ends = [Example("domain", "c4", "a:1", "", "one\u2028two\u2029three\u0085four\r\n\x1c\x0bfive\r", None)]
    write_examples(tmp_path, ends * 2)
    assert read_examples(tmp_path) == ends * 2


@pytest.mark.parametrize("damage", [b'{"source": "dom', b"[1]", b"{}", b"\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    write_examples(tmp_path, [Example("domain", "c4", "a:1", "", "text", None)])
    with (tmp_path / FILE).open("ab") as file:
        file.write(damage)
    with pytest.raises(DataError, match=rf"{FILE}:2: no example"):
        read_examples(tmp_path)


def test_a_corpus_without_examples_has_none(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == []
