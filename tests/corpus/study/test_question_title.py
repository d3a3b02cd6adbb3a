"""Titles that become questions, and titles that do not."""
# ruff: noqa: RUF001 - quotes as texts have them

from __future__ import annotations

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.question_title import QuestionTitle

BODY = "We asked coopers in Lund about oak, pine and the cost of a cask, and we weighed old staves."
FOUND = [
    ("Oak is better than pine for casks of wine", "Is oak better than pine for casks of wine?", "yes"),
    ("Oak is not better than pine for casks.", "Is oak better than pine for casks?", "no"),
    ("Pine can lower the cost of a cask: a survey in Lund", "Can pine lower the cost of a cask?", "yes"),
    ("Pine cannot lower the cost of a cask", "Can pine lower the cost of a cask?", "no"),
    ("Old Staves Are Lighter Than New Ones", "Are old staves lighter than new ones?", "yes"),
    ("Old Staves Were Never Used in Lund", "Were old staves used in Lund?", "no"),
    (
        "The cost of casks has increased since the war",
        "Has the cost of casks increased since the war?",
        "yes",
    ),
    ("Casks aren’t a good choice for oil", "Are casks a good choice for oil?", "no"),
    ("Casks aren't a danger to health", "Are casks a danger to health?", "no"),
    ("IAEA is an agency of the United Nations", "Is IAEA an agency of the United Nations?", "yes"),
]
NOT_FOUND = [
    "Casks of oak",
    "What casks are made of",
    "How oak is dried",
    "Is oak better than pine?",
    "Casks that can be used again",
    "The Man Who Was a Cooper",
    "It is better to use oak",
    "This wood is better than pine",
    "Oak is not only better than pine",
    "Not all casks are of oak",
    "All casks are not of oak",
    "Oak has value",
    "Free Will Is a Dream",
    "OAK IS BETTER THAN PINE",
    "Oak is better, pine is cheaper",
    "Oak is better and pine is cheaper",
    "Oak is better. Pine is cheaper.",
    "Oak is better than pine but not than ash",
    "Coopers use oak",
]


def mined(text: str) -> list[Item]:
    return list(QuestionTitle(load_language("en")).mine(Document("one", text)))


@pytest.mark.parametrize(("title", "question", "answer"), FOUND)
def test_a_title_that_states_something(title: str, question: str, answer: str) -> None:
    (item,) = mined(f"{title}\n{BODY}")
    assert (item.task, item.answer, item.label) == ("question_title.yes_no", answer, answer)
    assert item.fields == {"question": question}
    assert item.options == ("yes", "no")
    assert item.fact == f"question_title:{title.lower()}"
    assert item.span == (0, len(title))


@pytest.mark.parametrize("title", NOT_FOUND)
def test_titles_that_state_nothing_or_too_much(title: str) -> None:
    assert mined(f"{title}\n{BODY}") == []


@pytest.mark.parametrize(
    ("more", "question"),
    [
        ("", "Is lund better for oak than pine?"),
        ("we went to Lund", "Is Lund better for oak than pine?"),
        ("we went to Lund, and the lund said so", "Is lund better for oak than pine?"),
        ("we went to Lund, to Lund, and the lund said so", "Is Lund better for oak than pine?"),
        ("in Lund’s woods", "Is Lund better for oak than pine?"),
        ("They came. Lund slept. LUND", "Is lund better for oak than pine?"),
    ],
)
def test_a_name_has_a_capital_within_sentences(more: str, question: str) -> None:
    body = BODY.replace(" in Lund", "")
    (item,) = mined(f"Lund Is Better for Oak Than Pine\n{body} {more}")
    assert item.fields == {"question": question}


@pytest.mark.parametrize(
    ("more", "question"),
    [
        ("the X-ray oven", "Is X-ray good for oak?"),
        ("an x-ray oven", "Is x-ray good for oak?"),
        ("the X-ray–like oven and the X-ray oven, no x-ray", "Is X-ray good for oak?"),
    ],
)
def test_compounds_are_words_of_their_own(more: str, question: str) -> None:
    (item,) = mined(f"X-ray is good for oak\n{BODY} {more}")
    assert item.fields == {"question": question}


def test_headings_stand_before_paragraphs() -> None:
    text = f"Casks\n{BODY}\nOld Staves Are Not Light\n{BODY}"
    (item,) = mined(text)
    assert item.fields == {"question": "Are old staves light?"}
    assert text[slice(*item.span)] == "Old Staves Are Not Light"
    assert mined(f"Casks\n{BODY}\nOld Staves Are Not Light\nOld Hoops Are Not Light") == []
    assert mined(f"Casks\n{BODY}\nold staves are not light\n{BODY}") == []
    # A line of wrapped text
    assert mined(f"Casks\n{BODY[:-1]} which the\nOld Staves Are Not Light\n{BODY}") == []
    assert mined(f"Casks\n{BODY}\nOld Staves Are Not Light\n{BODY.lower()}") == []


def test_wordings_have_places_of_the_items() -> None:
    language = load_language("en")
    for wording in (*language.trained["question_title.yes_no"], *language.unseen["question_title.yes_no"]):
        assert places(wording) <= {"question", "options"}
