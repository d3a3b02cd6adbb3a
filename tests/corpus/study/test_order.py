"""Paragraphs to be put in order, and paragraphs without an order to be seen."""

from __future__ import annotations

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.order import Order

TEXTS = [
    [
        "A cooper first dries the oak in the open air.",
        "This takes two or three years, as the rain washes out bitter matter.",
        "Then the dry wood is split into staves along its grain.",
    ],
    [
        "Barrels were known to the Celts more than two thousand years ago.",
        "They replaced the clay jars in which wine had been stored.",
        "However, the jars were still used in the south for some time.",
        "These jars are found in many wrecks.",
        "Such wrecks show the routes of the old trade.",
    ],
]
NO_ORDER = [
    "A cooper dries the oak in the open air. Then the dry wood is split into staves along its grain.",
    "This is how a cooper dries oak. Then the wood is split into staves. These are bent over a fire.",
    "Oak gives wine a taste of vanilla. Chestnut gives wine a dark colour. Acacia gives wine nothing at all.",
    "Wash it. Then dry the whole cask well. Then fill the whole cask with water.",
    "Oak is dried in the air, as seen in . Then the wood is split into staves. These are bent over a fire.",
    "Coopers dry the oak in the air.\nThen the wood is split into staves.\nThese are bent over a fire.",
]


def mined(text: str) -> list[Item]:
    return list(Order(load_language("en")).mine(Document("one", text)))


@pytest.mark.parametrize("sentences", TEXTS)
def test_the_answer_is_the_paragraph_and_the_question_its_sentences(sentences: list[str]) -> None:
    text = f"Casks of wood\n{' '.join(sentences)}"
    (item,) = mined(text)
    shown = item.fields["sentences"].removeprefix("- ").split("\n- ")
    assert item.task == "order.order"
    assert 3 <= len(shown) <= len(sentences)
    assert item.answer == " ".join(sentences[: len(shown)])
    assert shown != sentences[: len(shown)]
    assert sorted(shown) == sorted(sentences[: len(shown)])
    assert text[slice(*item.span)] == item.answer
    assert item.hidden == item.span
    assert mined(text) == [item]


@pytest.mark.parametrize("text", NO_ORDER)
def test_paragraphs_without_an_order(text: str) -> None:
    assert mined(text) == []


def test_wordings_have_places_of_the_items() -> None:
    language = load_language("en")
    for wording in (*language.trained["order.order"], *language.unseen["order.order"]):
        assert places(wording) == {"sentences"}
