"""Passages cover a text and end where its lines or sentences do."""

from __future__ import annotations

from made_language import with_abbreviation

from cpt.corpus.documents import Document
from cpt.corpus.study.language import load_language
from cpt.corpus.study.sentences import opening, passages
from cpt.corpus.study.write.prompts import passages_of

ENGLISH = load_language("en")
OTHER = with_abbreviation("Mlr")


def test_passages_cover_the_text_and_keep_to_their_size() -> None:
    lines = "".join(f"Line {number} of the text is here.\n" for number in range(40))
    sentences = " ".join(f"Sentence {number} stands in a long line." for number in range(40))
    for text in (lines, sentences, lines + sentences):
        found = list(passages(text, 300, ENGLISH))
        assert "".join(text[begin:end] for begin, end in found) == text
        assert all(end - begin <= 300 for begin, end in found)
        assert all(text[end - 1] in ".\n" for _, end in found)
        assert len(found) <= len(text) / 200


def test_an_opening_ends_with_a_sentence() -> None:
    text = "First one. Second one. Third one."
    assert [opening(text, size, ENGLISH) for size in (9, 10, 21, 22, 33, 99)] == [
        "",
        "First one.",
        "First one.",
        "First one. Second one.",
        text,
        text,
    ]


def test_sentences_end_as_their_language_says() -> None:
    text = "The old mill grinds. It was built by Mlr. Ahrend of the coast. " * 9
    short = "The old mill grinds. It was built by Mlr. Ahrend"
    assert opening(short, 45, ENGLISH).endswith("Mlr.")
    assert opening(short, 45, OTHER) == "The old mill grinds."
    for size in range(300, 400, 7):
        for made in (
            [text[slice(*place)] for place in passages(text, size, OTHER)],
            [each.text for each in passages_of(Document("a", text), size, OTHER)],
        ):
            assert made
            assert not any(each.rstrip().endswith("Mlr.") for each in made)
    assert any(
        text[slice(*place)].rstrip().endswith("Mlr.")
        for size in range(300, 400, 7)
        for place in passages(text, size, ENGLISH)
    )
