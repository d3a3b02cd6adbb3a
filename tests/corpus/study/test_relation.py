"""Pairs of sentences with a connective, causes and effects, and sentences that look alike."""

from __future__ import annotations

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.relation import Relation

FIRST = "The staves of an old cask dry out when it stands empty, and small gaps open between them."
OTHER = "The cooper fills it with water for some days, and the wood swells."
PAIRS = [
    ("Therefore, the cooper", "yes", "Therefore", []),
    ("Thus the cooper", "yes", "Therefore", []),
    ("As a result, the cooper", "yes", "Therefore", []),
    ("However, the cooper", "no", "However", ["contrast"]),
    ("But the cooper", "no", "However", []),
    ("In contrast, the cooper", "no", "However", ["contrast"]),
    ("Moreover, the cooper", "maybe", "Moreover", []),
    ("In addition, the cooper", "maybe", "Moreover", []),
]
NO_PAIRS = [
    f"{FIRST} The cooper fills it with water for some days, and the wood swells.",
    f"{FIRST}\nTherefore, the cooper fills it with water for some days.",
    "Casks dry out. Therefore, the cooper fills them with water for some days.",
    f"{FIRST} Therefore, fill it.",
    f"{FIRST} However hard the cooper works, the wood of an old cask stays dry.",
    f"Why do the staves of an old cask dry out when it stands empty? Thus {OTHER}",
    f"Moreover, {FIRST} Therefore, the cooper fills it with water for some days.",
    f"{FIRST} Therefore, the cooper fills it with water, as shown in .",
    f"{FIRST} Therefore, does the cooper fill it with water for some days?",
]
CAUSES = [
    (
        "Because of the dry summer, the staves of the cask shrank by a finger.",
        ("the dry summer", "The staves of the cask shrank by a finger"),
    ),
    (
        "Many of the casks were lost because of bad storage in the cellar.",
        ("bad storage in the cellar", "Many of the casks were lost"),
    ),
    (
        "Leaks at the head usually occur due to worn tools (Lund, 2019).",
        ("worn tools", "Leaks at the head usually occur"),
    ),
    (
        "The wood of the head was mainly weakened due to rot.",
        ("rot", "The wood of the head was mainly weakened"),
    ),
    (
        "Owing to high taxes on oak, coopers of the north used pine.",
        ("high taxes on oak", "Coopers of the north used pine"),
    ),
]
NO_CAUSES = [
    "The cellar of the house has casks with leaks due to rot.",
    "The cooper left because of it.",
    "Because of this, the staves of the cask shrank by a finger.",
    "The cask may be lost because the cellar was wet.",
    "Casks are lost, and wine is spilt, because of rot in the cellar.",
    "The casks were lost not because of rot in the cellar.",
    "The price of a cask of oak is based due to custom.",
    "Casks were lost because of rot that spread when the cellar was wet.",
    "Casks were lost because of its age.",
    "The loss that the cooper had on account of rot was large.",
    "Because of rot in the cellar, the price of a cask plus that of its wine was lost.",
    "Because of rot in the cellar, monitor all of the casks each week.",
    "Casks were lost because of the nature of rot.",
]


def mined(text: str) -> list[Item]:
    return list(Relation(load_language("en")).mine(Document("one", text)))


@pytest.mark.parametrize(("opening", "answer", "word", "more"), PAIRS)
def test_two_sentences_with_a_connective(opening: str, answer: str, word: str, more: list[str]) -> None:
    text = f"{FIRST} {opening} fills it with water for some days, and the wood swells."
    entails, connective, *others = mined(text)
    assert entails.fields == connective.fields == {"first": FIRST, "second": OTHER}
    assert (entails.task, entails.answer, entails.label) == ("relation.entails", answer, answer)
    assert entails.options == ("yes", "no", "maybe")
    assert (connective.task, connective.answer, connective.label) == ("relation.connective", word, word)
    assert connective.options == ("Therefore", "However", "Moreover")
    assert {item.span for item in (entails, connective, *others)} == {(0, len(text))}
    assert [(item.task, item.answer, item.fields) for item in others] == [
        (f"relation.{task}", OTHER, {"first": FIRST}) for task in more
    ]


@pytest.mark.parametrize("opening", ["In other words,", "For example,", "Indeed,"])
def test_a_sentence_that_supports_the_one_before_it(opening: str) -> None:
    (item,) = mined(f"{FIRST} {opening} the cooper fills it with water for some days, and the wood swells.")
    assert (item.task, item.answer, item.fields, item.label) == (
        "relation.support",
        OTHER,
        {"first": FIRST},
        "",
    )


@pytest.mark.parametrize("opening", ["Similarly, a vat", "For example, suppose that a cooper"])
def test_another_case_and_one_that_only_begins_support_nothing(opening: str) -> None:
    assert mined(f"{FIRST} {opening} fills it with water for some days, and the wood swells.") == []


def test_what_is_said_to_the_reader_is_no_contrast_and_a_rule_no_effect() -> None:
    items = mined(f"{FIRST} In contrast, you fill it with water for some days, and the wood swells.")
    assert {item.task for item in items} == {"relation.entails", "relation.connective"}
    (item,) = mined("Because of rot in the cellar, casks should be moved to another place.")
    assert item.task == "relation.effect"


@pytest.mark.parametrize("text", NO_PAIRS)
def test_sentences_without_a_relation_in_sight(text: str) -> None:
    assert mined(text) == []


@pytest.mark.parametrize(("text", "expected"), CAUSES)
def test_a_cause_and_its_effect(text: str, expected: tuple[str, str]) -> None:
    cause, effect = expected
    first, second = mined(text)
    assert (first.task, first.answer) == ("relation.effect", f"{effect}.")
    assert (second.task, second.answer) == ("relation.cause", cause)
    assert first.fields == second.fields == {"cause": cause, "effect": effect}


@pytest.mark.parametrize("text", NO_CAUSES)
def test_sentences_whose_cause_or_effect_is_not_clear(text: str) -> None:
    assert mined(text) == []


def test_wordings_have_places_of_the_items() -> None:
    language = load_language("en")
    texts = [f"{FIRST} However, {OTHER}", f"{FIRST} For example, {OTHER}", CAUSES[0][0]]
    items = {item.task: item for text in texts for item in mined(text)}
    assert len(items) == 6
    for task, item in items.items():
        allowed = {*item.fields, "options"} if item.options else set(item.fields)
        for wording in (*language.trained[task], *language.unseen[task]):
            assert places(wording) <= allowed
            assert "{cause}" not in wording or task == "relation.effect"
            assert "{effect}" not in wording or task == "relation.cause"
