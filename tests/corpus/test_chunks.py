"""Long texts are cut where something ends, and nothing of them is lost."""

from __future__ import annotations

import random

import pytest

from cpt.corpus.chunks import chunks, in_chunks
from cpt.corpus.documents import Document, Removed

WORDS = ("fever", "is", "high.", "cough\n", "stays\n\n", "病人发烧。", "a", "é")


@pytest.mark.parametrize("seed", range(20))
def test_chunks_joined_are_the_text(seed: int) -> None:
    draw = random.Random(seed)
    text = " ".join(draw.choices(WORDS, k=300))
    longest = draw.randrange(20, 200)
    found = list(chunks(text, longest))
    assert "".join(found) == text
    assert all(0 < len(chunk) <= longest for chunk in found)
    assert len(found) <= 2 * len(text) / longest + 1


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.\n\nThree. Four.\nFive. Six, and seven", "One. Two.\n\n"),
        ("One two. Two.\nThree, four, five, six, seven", "One two. Two.\n"),
        ("One two. Two. Three, four, five, six, seven", "One two. Two. "),
        ("One, two, three, four, five, six, and seven", "One, two, "),
        ("一二三四五六七八九。一二三四五六七八九十一二三四五六七八九十", "一二三四五六七八九。"),
        ("x" * 43, "x" * 15),
    ],
)
def test_a_text_is_cut_at_the_best_end_of_its_second_half(text: str, first: str) -> None:
    longest = 20 if " " in text or "x" in text else 15
    assert next(chunks(text, longest)) == first


def test_chunks_have_about_the_same_length() -> None:
    assert [len(chunk) for chunk in chunks("x" * 1_001, 500)] == [334, 334, 333]


def test_only_the_last_chunk_has_an_end() -> None:
    items = [
        Document("a", "x" * 30),
        Removed("b", "empty"),
        Document("c", "y" * 10),
        Document("d", "z" * 30, ended=False),
    ]
    found = list(in_chunks(iter(items), 15))
    assert found == [
        Document("a#1", "x" * 15, ended=False),
        Document("a#2", "x" * 15),
        *items[1:3],
        Document("d#1", "z" * 15, ended=False),
        Document("d#2", "z" * 15, ended=False),
    ]
