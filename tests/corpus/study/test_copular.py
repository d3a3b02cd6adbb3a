"""Definitions in sentences, and sentences that look alike and define nothing."""
# ruff: noqa: RUF001 - quotes as texts have them

from __future__ import annotations

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.copular import Copular

FOUND = [
    (
        "A stave is a narrow strip of wood that forms the side of a barrel.",
        ("stave", "a stave", "a narrow strip of wood that forms the side of a barrel"),
    ),
    (
        "The bung hole (bung) is an opening in the side of a cask, but it is often closed.",
        ("bung hole", "the bung hole", "an opening in the side of a cask"),
    ),
    (
        "Coopering is the craft of making barrels out of wood (Lund, 2019). People learn coopering.",
        ("coopering", "coopering", "the craft of making barrels out of wood"),
    ),
    (
        "Moisture content (MC) is defined as the mass of water in wood, and it falls. The moisture left.",
        ("moisture content", "moisture content", "the mass of water in wood"),
    ),
    (
        "The term toasting refers to the heating of the inner side of the staves over a fire.",
        ("toasting", "toasting", "the heating of the inner side of the staves over a fire"),
    ),
    (
        "The groove that holds the head of a barrel is called the croze. It is cut last.",
        ("croze", "the croze", "the groove that holds the head of a barrel"),
    ),
    (
        "FSC is an organization that certifies wood from well-kept forests.",
        ("FSC", "FSC", "an organization that certifies wood from well-kept forests"),
    ),
    (
        "A hoop is a band of metal that keeps the staves of a cask together and is driven on with a hammer.",
        (
            "hoop",
            "a hoop",
            "a band of metal that keeps the staves of a cask together and is driven on with a hammer",
        ),
    ),
    (
        "A trestle is a stand of wood for casks and is driven into the ground.",
        ("trestle", "a trestle", "a stand of wood for casks"),
    ),
    (
        "Charring is the burning of the inner side of a barrel, making a layer of coal. No charring lasts.",
        ("charring", "charring", "the burning of the inner side of a barrel, making a layer of coal"),
    ),
    (
        "A firkin is a cask that is not cut from one log but consists of staves.",
        ("firkin", "a firkin", "a cask that is not cut from one log but consists of staves"),
    ),
    (
        "A kilderkin refers to a cask of two firkins, whereas a barrel refers to one of four.",
        ("kilderkin", "a kilderkin", "a cask of two firkins"),
    ),
    (
        "The jointer plane is a tool of a cooper that planes the edges of staves.",
        ("jointer plane", "the jointer plane", "a tool of a cooper that planes the edges of staves"),
    ),
]
NOT_FOUND = [
    "Coopering is the craft of making barrels that hold, unlike baskets, wine and water.",
    "A cask fire is an emergency that coopers of the north have seen for many years.",
    "Loss of spirit through the wood is known as the angel’s share. A loss is normal.",
    "This is a vessel of wood that holds wine and other drinks.",
    "It is a band of metal that keeps the staves together.",
    "There is a band of metal that keeps the staves together.",
    "One of the oldest crafts is a craft of wood and iron in the north.",
    "Oak is an important kind of wood for barrels of all sizes. The oak grows.",
    "Pine is a common wood for the casks of the north. The pine grows.",
    "Ash is a better wood for handles than the wood of the spruce. The ash grows.",
    "The result is a barrel that holds water for many years.",
    "The goal of a cooper is a barrel that holds water for many years.",
    "Maria is a cooper who has worked in the north for many years.",
    "Oskar Lund is a 45-year-old cooper with an interest in old casks.",
    "The share of oak is a third of all wood, or 33 percent of the total.",
    "Toasting is a process. The toasting ends here.",
    "A barrel is a barrel that holds wine in a cellar.",
    "The acquired taste is an advanced form of the disease that coopers get.",
    "A stave is the longest of all parts that coopers make of wood.",
    "What is a stave if not a strip of wood that was bent over a fire?",
    "The board refers to coopers as the backbone of the trade in wood.",
    "A customer’s barrel is a vessel that holds the wine of the customer.",
    "A barrel is a vessel of wood, as seen in .",
    "Barrels are a kind of vessel that coopers make out of wood.",
    # Told of by accident, or judged
    "A stave is a strip of wood that is commonly cut from oak in the north.",
    "A hogshead is a cask that is essential for the trade of a harbour.",
    "A butt is a cask that affects thousands of coopers in the north.",
    "A tun is an integral vessel of the old houses that trade in wine.",
    "A rundlet is a thicker vessel of oak and iron for wine.",
    "A puncheon is a concept that has been with coopers for years.",
    # A kind without a difference, or of itself
    "A keg is a form of cask vessel.",
    "The term cask refers to both small casks and large casks of wood.",
    # Of something that the text speaks of
    "The machine is a press of iron that bends staves over a fire.",
    "A rivet is a pin of iron that holds the organism in the cask.",
    # Another clause, a cut, an adjective, words of others, a cell of a table
    "Headroom is the air in a cask, ullage is the air in a bottle, and neither is full.",
    "A vessel of wood for wine that holds and is called a cask.",
    "A cask with two heads of oak is called cylindrical.",
    "The croze is “the groove that holds the head of a barrel”.",
    "The way of counting in cell E8 is called stocktaking. A stocktaking ends.",
    "Posteriorly is the side of a cask that faces the wall of the cellar.",
]


def mined(*texts: str) -> list[Item]:
    return list(Copular(load_language("en")).mine(Document("one", "\n".join(texts))))


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=lambda value: str(value)[:40])
def test_a_definition_is_asked_for_in_both_directions(text: str, expected: tuple[str, str, str]) -> None:
    term, named, definition = expected
    define, name = mined(text)
    assert (define.task, define.answer, define.reverse) == ("copular.define", definition, False)
    assert (name.task, name.answer, name.reverse) == ("copular.name", term, True)
    assert define.fields == name.fields == {"term": term, "named": named, "definition": definition}
    assert define.fact == name.fact == term.lower()


@pytest.mark.parametrize("text", NOT_FOUND, ids=lambda text: text[:40])
def test_sentences_that_define_nothing(text: str) -> None:
    assert mined(text) == []


def test_the_first_definition_of_a_term_counts() -> None:
    texts = ("A hoop is a band of metal around a cask.", "A hoop is a toy that children drive with a stick.")
    items = mined(*texts)
    assert [item.answer for item in items] == ["a band of metal around a cask", "hoop"]
    assert items[0].span == (0, len(texts[0]))


@pytest.mark.parametrize(("used", "found"), [(8, True), (9, False)])
def test_a_term_that_was_used_often_is_not_defined_any_more(used: int, found: bool) -> None:
    uses = ["The hoop of a barrel was driven on."] * used
    assert bool(mined(*uses, "A hoop is a band of metal around a cask.")) == found


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("Much coopering is done by hand.", True),
        ("They call it coopering.", True),
        ("Lund lives by wine-coopering and by coopering/brewing.", False),
        ("See coopering.example and mail@coopering for more.", False),
        ("Coopering again, and Coopering once more.", False),
    ],
)
def test_a_term_without_article_is_written_without_a_capital_elsewhere(more: str, found: bool) -> None:
    assert bool(mined("Coopering is the craft of making barrels out of wood.", more)) == found


def test_wordings_have_places_of_the_items() -> None:
    language = load_language("en")
    for item in mined(FOUND[0][0]):
        for wording in (*language.trained[item.task], *language.unseen[item.task]):
            assert places(wording) <= set(item.fields)
            assert f"{{{'definition' if item.task == 'copular.define' else 'term'}}}" not in wording
