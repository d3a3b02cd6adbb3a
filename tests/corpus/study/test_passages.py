"""Passages cover a text and end where its lines or sentences do."""

from __future__ import annotations

from cpt.corpus.study.sentences import opening, passages


def test_passages_cover_the_text_and_keep_to_their_size() -> None:
    lines = "".join(f"Line {number} of the text is here.\n" for number in range(40))
    sentences = " ".join(f"Sentence {number} stands in a long line." for number in range(40))
    for text in (lines, sentences, lines + sentences):
        found = list(passages(text, 300))
        assert "".join(text[begin:end] for begin, end in found) == text
        assert all(end - begin <= 300 for begin, end in found)
        assert all(text[end - 1] in ".\n" for _, end in found)
        assert len(found) <= len(text) / 200


def test_an_opening_ends_with_a_sentence() -> None:
    text = "First one. Second one. Third one."
    assert [opening(text, size) for size in (9, 10, 21, 22, 33, 99)] == [
        "",
        "First one.",
        "First one.",
        "First one. Second one.",
        text,
        text,
    ]
