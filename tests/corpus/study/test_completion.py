"""Paragraphs to be gone on with, and those that are too short or hold no sentences of their own."""

from __future__ import annotations

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.completion import Completion

SENTENCES = [
    "Casks are made of oak.",
    "The oak dries in the air for two years.",
    "A cooper then splits it into staves.",
    "The staves are bent over a fire.",
    "Hoops of iron hold them together.",
]
LONG = f"The staves are bent over a fire {'of chips and of straw ' * 14}in the yard."
NONE = [
    " ".join(SENTENCES[:3]),
    "\n".join(SENTENCES),
    f"They are made of oak. {' '.join(SENTENCES[1:])}",
    f"Casks (made of oak. {' '.join(SENTENCES[1:])}",
    f"{SENTENCES[0]} {SENTENCES[1]} {LONG} {LONG}",
]


def mined(text: str, id: str = "one") -> list[Item]:
    return list(Completion(load_language("en")).mine(Document(id, text)))


def test_a_text_is_cut_between_sentences() -> None:
    text = f"Casks\n{' '.join(SENTENCES)}"
    cuts = set()
    for number in range(20):
        (item,) = mined(text, f"document {number}")
        assert item.task == "completion.continue"
        assert f"{item.fields['beginning']} {item.answer}" == " ".join(SENTENCES)
        assert text[slice(*item.span)] == " ".join(SENTENCES)
        assert item.hidden is not None
        assert text[slice(*item.hidden)] == item.answer  # so it stands nowhere in sight
        cuts.add(item.answer)
    assert cuts == {" ".join(SENTENCES[cut:]) for cut in (2, 3, 4)}


def test_an_answer_has_as_many_sentences_as_fit() -> None:
    text = " ".join(
        [*SENTENCES[:2], *(f"{letter} second row of {'staves ' * 20}is set." for letter in "ABCD")]
    )
    for number in range(10):
        (item,) = mined(text, f"document {number}")
        assert len(item.answer) <= 300
        assert item.answer.endswith("is set.")
        assert item.hidden is not None
        assert text[slice(*item.hidden)] == item.answer
        assert item.hidden[1] == item.span[1]


@pytest.mark.parametrize("text", NONE)
def test_paragraphs_that_cannot_be_gone_on_with(text: str) -> None:
    assert mined(text) == []


def test_wordings_have_places_of_the_items() -> None:
    language = load_language("en")
    for wording in (*language.trained["completion.continue"], *language.unseen["completion.continue"]):
        assert places(wording) == {"beginning"}
