"""Words and sentences by rules: nothing of a text is lost, and each script gives words."""

from __future__ import annotations

import pytest
import regex

from cpt.corpus.blocks.words import Splitter, words

TEXTS = [
    "",
    " \n ",
    "Don't take 3.5 mg; the well-known dose ... is 1,000!",
    "J. Smith said “No.” Then he left.\nA heading\n\nThe U.S. Code (§ 12).",
    "मॅक्रोज़ तथा LibreOffice। दूसरा वाक्य।",
    "日本語の文です。次の文。ภาษาไทย",
    "\x1c\u200b|x",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't take 3.5 mg", ["Don't", "take", "3.5", "mg"]),
        (
            "well-known (U.S.) §§ 12 ... --",
            ["well", "-", "known", "(", "U.S", ".", ")", "§§", "12", "...", "--"],
        ),
        ("मॅक्रोज़ तथा", ["मॅक्रोज़", "तथा"]),
        ("日本のDNA", ["日", "本", "の", "DNA"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert Splitter().word_tokenize(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three", ["One.", "Two?", "Three"]),
        ("J. Smith said “No.” Then 3.5 mg.", ["J. Smith said “No.”", "Then 3.5 mg."]),
        ("A heading\nA sentence.", ["A heading", "A sentence."]),
        ("日本語の文です。次の文。", ["日本語の文です。", "次の文。"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert Splitter().sent_tokenize(text) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_lost(text: str) -> None:
    spans = Splitter().span_tokenize(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert "".join(words(text)) == regex.sub(r"\s", "", text)  # filters divide by the number of words


def test_datatrove_takes_the_splitter_in_place_of_a_language() -> None:
    from datatrove.utils.text import split_into_sentences, split_into_words

    splitter = Splitter()
    assert split_into_words("One. Two", splitter) == ["One", ".", "Two"]
    assert split_into_sentences("One. Two", splitter) == ["One.", " Two"]
