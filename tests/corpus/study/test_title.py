"""Titles and headings of hand-written texts, and lines that only look like them."""

from __future__ import annotations

import pytest
from made_language import with_abbreviation

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import Language, load_language, places
from cpt.corpus.study.miners.title import Title, heading_of, is_paragraph, title_of

ENGLISH = load_language("en")

BEES = (
    "Honey bees live in colonies of many thousands, and every colony shares one nest of wax. The bees "
    "divide their work by age: the young ones clean cells and feed the brood, the old ones fly out and "
    "gather food."
)
WAX = (
    "Wax comes from eight glands under the abdomen of a worker. She chews the small flakes of wax until "
    "they are soft, and presses them to the edge of a cell. A comb of wax that weighs one ounce can carry "
    "two pounds."
)
DANCE = (
    "A forager that has found flowers runs over the comb in the shape of an eight. The angle of her dance "
    "tells the direction of the flowers from the sun, and the length of the dance tells the others the "
    "distance."
)
TEXT = f"""2.1 The Work of Bees
Learning Objectives
Describe how bees divide their work.
{BEES}
Wax and Comb
{WAX}
Review Questions
{WAX.replace("Wax", "It")}
The Dance of Foragers
{DANCE}
"""


def mined(text: str, *others: str, language: Language = ENGLISH) -> list[Item]:
    miner = Title(language)
    miner.learn(Document(str(number), each) for number, each in enumerate((text, *others)))
    return list(miner.mine(Document("0", text)))


def test_golden_items() -> None:
    items = mined(TEXT)
    assert [(item.task, item.answer, TEXT[slice(*item.span)]) for item in items] == [
        ("title.title", "The Work of Bees", BEES),
        ("title.topic", "The Work of Bees", BEES),
        ("title.article", BEES, BEES),
        ("title.heading", "Wax and Comb", WAX),
        ("title.heading", "The Dance of Foragers", DANCE),
    ]
    assert [item.reverse for item in items] == [False, False, True, True, True]
    assert {item.fact for item in items} == {"the work of bees", "wax and comb", "the dance of foragers"}
    assert items[3].fields == {"paragraph": WAX}


def test_the_topic_is_asked_on_a_later_paragraph_that_names_it() -> None:
    later = BEES.replace("Honey bees", "Solitary bees")
    items = mined(f"The Work of Bees\n{BEES}\n{WAX}\n{later}\n")
    assert [item.span[0] for item in items[:2]] == [len("The Work of Bees\n"), items[1].span[0]]
    assert items[1].answer == "The Work of Bees"
    assert items[1].span[0] > len(BEES) + len(WAX)


def test_an_article_is_cut_at_a_sentence() -> None:
    text = f"The Work of Bees\n{BEES}\n{WAX}\n{DANCE}\n"
    (article,) = (item for item in mined(text) if item.task == "title.article")
    assert article.answer.startswith(f"{BEES}\n{WAX}")
    assert article.answer.endswith(".")
    assert len(article.answer) <= 600


def test_an_article_is_not_asked_when_its_beginning_is_missing() -> None:
    text = f"The Work of Bees\nBees are never idle, as the saying goes.\n{BEES}\n"
    assert [item.task for item in mined(text)] == ["title.title", "title.topic"]


def test_a_title_of_two_documents_names_neither() -> None:
    assert mined(f"The Work of Bees\n{BEES}\n", f"The work of bees\n{WAX}\n") == []


def test_cuts_are_at_sentences_of_the_language() -> None:
    line = f"{BEES} {WAX} It was first told by Mlr. Ahrend{' of the bees' * 60}."
    text = f"The Work of Bees\n{line}\nWax and Comb\n{line}\n"
    for language, cut in ((ENGLISH, True), (with_abbreviation("Mlr"), False)):
        items = {item.task: item for item in mined(text, language=language)}
        assert items["title.article"].answer.endswith("Mlr.") == cut
        assert items["title.heading"].fields["paragraph"].endswith("Mlr.") == cut


def test_a_heading_of_many_documents_belongs_to_the_layout() -> None:
    others = [f"Text {number}\nIt goes on.\nWax and Comb\n{WAX}\n" for number in range(3)]
    assert [item.answer for item in mined(TEXT, *others) if item.task == "title.heading"] == [
        "The Dance of Foragers"
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"A Preface to Novels\n{BEES}\n",  # no word of it in the text
        f"Bees\n{BEES}\n",  # one word
        f"Bees work all day long.\n{BEES}\n",  # a sentence
        f"the work of bees\n{BEES}\n",  # a piece of one
        f"Work of Bees, 07-4641, 2008-11\n{BEES}\n",  # a docket
        "The Work of Bees\nBees work.\n",  # no body
        "The Work of Bees",
        "",
        f"{BEES}\n{WAX}\n",
        f"Opening words come first.\nsmoker and veil\n{BEES}\n",  # an entry of a list
        f"Opening words come first.\nBees\nWorkers\n{BEES}\n",  # two short lines
        f"Opening words come first.\nBees and Work:\n{BEES}\n",
        f"Opening words come first.\nHoney and Pollen\n{DANCE}\n",  # another subject
        f"Opening words come first.\nThe young workers of the bees live in the\n{BEES}\n",  # a broken line
        f"Opening words come first.\nBees work hard. See\n{BEES}\n",
        f"Preface\nIt is short.\nWork of Bees\n{BEES}\n",
    ],
)
def test_nothing_is_found_in_look_alikes(text: str) -> None:
    assert mined(text) == []


def test_lines_of_a_glossary_are_no_headings() -> None:
    lines = "\n".join(
        f"Term {letter}: meaning of it in words {WAX}" for letter in ("one", "two", "three", "four")
    )
    assert mined(f"It begins with a sentence.\n{lines}\n") == []


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("## Wax and Comb ##", "Wax and Comb"),
        ("3.4 Wax", "Wax"),
        ("II. Wax", "Wax"),
        ("A. Wax", ""),
        ("Is Wax Soft?", ""),
        ("See http://example.org", ""),
        ("Wax | Comb | Cell", ""),
        ("", ""),
    ],
)
def test_headings(line: str, heading: str) -> None:
    assert heading_of(line) == heading


def test_a_title_may_be_a_question() -> None:
    text = f"What Do Bees Eat?\n{BEES}"
    assert title_of(text, [(0, 17), (18, len(text))]) == "What Do Bees Eat?"


def test_an_entry_of_a_bibliography_is_no_paragraph() -> None:
    assert is_paragraph(BEES)
    assert not is_paragraph(f"Miller, A. (2019). {BEES}")
    assert not is_paragraph(f"{BEES} https://example.org/bees.")


def test_wordings_have_places_of_their_items() -> None:
    items = {item.task: item for item in mined(TEXT)}
    assert {f"title.{task}" for task in ("title", "topic", "article", "heading")} == items.keys()
    for task, item in items.items():
        for unseen in (False, True):
            for wording in ENGLISH.wordings(task, unseen=unseen):
                assert places(wording) == item.fields.keys()
                assert not wording.endswith((" ", "\n"))
