"""Sentences of texts written for this test: one sentence a line, joined by a space."""
# ruff: noqa: RUF001 - quotes and full-width marks of texts

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cpt.corpus.study.language import load_language
from cpt.corpus.study.sentences import SentenceCheck, in_one_line, paragraphs, sentences

ENGLISH = load_language("en")

CASES = [
    ["The heart beats.", "Blood flows."],
    ["Is it late?", "No. 5 is full!", "We wait."],
    ["Is it late?", "No.", "It is early."],
    ["Dr. Weber met Mrs. Lund.", "They spoke with Prof. Okoye."],
    ["Some fruits, e.g. Apples of the north, keep well.", "Others rot."],
    ["A solvent, i.e. Water or alcohol, is needed.", "It must be clean."],
    ["Use pears, plums, etc. in the cake.", "Bake it."],
    ["They sell tools, ropes, etc.", "The shop closes at noon."],
    ["Weber et al. (2019) measured this.", "Lund et al. Found a cell."],
    ["This was shown by Weber et al.", "The result was confirmed."],
    ["Lund v. Weber was decided in 1990.", "Weber vs. Okoye was not."],
    ["See Fig. 3 for the curve.", "Fig. S1 has the rest (Figs. 4 and 5)."],
    ["The curve is shown in the fig.", "Look at it."],
    ["The U.S. Senate voted.", "It sits in the U.S. capital."],
    ["He moved to the U.S.", "The move took a year."],
    ["She rose at 6 a.m. and left.", "He came at 9 p.m.", "They met."],
    ["He has a Ph.D. in law.", "She has a Ph.D.", "He envies her."],
    ["Room No. 12 is empty.", "Nos. 13 and 14 are not."],
    ["The rate is 3.5 percent.", "It was 2.25 in 1998.", "Prices rose."],
    ["In 1990.", "That is when it began."],
    ["J. R. Okoye wrote it.", "Mary K. Lund read it.", "A. B. Weber did not."],
    ["George A. Okoye signed.", "He left."],
    ["Carrots hold vitamin A.", "Oranges hold vitamin C.", "Calcium is in milk."],
    ["It is called hepatitis B.", "Nurses are vaccinated."],
    ["“Stop there.”", "She stopped."],
    ['"Stop there!" he called.', "She went on."],
    ['He said, "It is over."', '"Not yet," she said.'],
    ["It rained (very hard.)", "We stayed in."],
    ["We stayed in (it rained).", "(Nobody minded.)", "Then it stopped."],
    ["The text says [see above.]", "It ends here."],
    ["Wait… what is that?", "Nothing…", "Go on."],
    ["And then...", "Silence.", "And then... nothing."],
    ["The panel held . . . that it was void.", "The rest stands."],
    ["The rule . . . Applies to all.", "It is old."],
    ["1. Wash your hands.", "2. Dry them."],
    ["A. The lung is on the list.", "B. A heart is too."],
    ["§ 117. Death of an owner ends the lease.", "The heirs may renew it."],
    ["He runs Weber Inc. and owns it.", "She runs Lund Ltd.", "It is small."],
    ["It opened on Jan. 5 and closed in Sept. 2001.", "Plants like the sun.", "Mice sat."],
    ["The mRNA leaves.", "tRNA binds it.", "pH matters."],
    ["It was held.12", "The court agreed.[3]", "The case ended."],
    ["Read vol. 3 of the set, pp. 12-14.", "It is at sec. 4."],
    ["Open setup.py and node.js first.", "Visit example.org now.", "Run it."],
    ["Really?!", "Yes!!", "Good."],
    ["Is that so?", "Maria asked again; nobody knew."],
    ["St. Mary is a church near Mt. Tabor.", "Gen. Lund built it."],
    ["The mass of the stone is 5 lb.", "It fell 3 ft. from the wall."],
    ["He asked, “Why?”", "“Because,” she said, “it is so.”"],
    ["¿Qué es esto?", "¡Nada!", "Bueno."],
    ["The game was long .", "The players slept ."],
]


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text, ENGLISH)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_sentences_of_a_line(case: list[str]) -> None:
    joined = " ".join(case)
    assert split(joined) == case


def test_a_line_break_ends_a_sentence() -> None:
    assert split("Heading\nOne line. And\n\r\n  a second\u2028third\n") == [
        *("Heading", "One line.", "And", "a second", "third")
    ]


def test_sentences_without_spaces_between_them() -> None:
    assert split("今天下雨。我们在家！") == ["今天下雨。", "我们在家！"]


def test_spans_hold_all_text_but_white_space() -> None:
    text = "  One. Two (three.)  Four\n\n“Five.” six. Seven? Eight  "
    spans = list(sentences(text, ENGLISH))
    assert all(text[start:end].strip() == text[start:end] != "" for start, end in spans)
    assert "".join(text[start:end] for start, end in spans).replace(" ", "") == "".join(text.split())


@pytest.mark.parametrize(
    "text", ["", "\n", "...", ". . .", "?", "Mr.", "a. b. c.", "\ud800. A", ".\n.\n", "No. "]
)
def test_texts_of_hardly_anything(text: str) -> None:
    assert "".join(split(text)).replace(" ", "") == "".join(text.split())


def whole(text: str) -> list[list[str]]:
    return [[text[start:end] for start, end in line] for line in paragraphs(text, ENGLISH)]


def test_whole_sentences_line_by_line() -> None:
    text = "A heading\nOne is here. Two is there.\n\nThree has no end\nFour ends (at last). Five"
    assert whole(text) == [["One is here.", "Two is there."], ["Four ends (at last)."]]


def test_the_number_of_a_page_is_no_end_of_a_cut_line() -> None:
    text = (
        "The clerk brought the papers of the first case to the court of\n\n-3-\nNorth Lund. It opened late.\n"
    )
    assert whole(text) == [["It opened late."]]


def test_the_rest_of_a_sentence_that_a_line_break_cut_is_left_out() -> None:
    text = (
        "The clerk brought the papers of the first case to the court of\n\nNorth Lund. It opened late.\n"
        "the rest was sent. All agreed.\nThe list of all the papers that the clerk had brought there:\n"
        "Maps were first."
    )
    assert whole(text) == [["It opened late."], ["All agreed."], ["Maps were first."]]


FLAGS = ("asks",)
"""Keys whose values are meant as true or false."""


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (leaf for pair in value.items() if pair[0] not in FLAGS for leaf in leaves(pair))
    elif isinstance(value, list | tuple):
        yield from (leaf for inner in value for leaf in leaves(inner))
    else:
        yield value


def test_no_word_of_a_language_is_read_as_true_or_false() -> None:
    """YAML reads no, on and true as such unless they are quoted."""
    assert [leaf for leaf in leaves(dict(load_language("en").patterns)) if isinstance(leaf, bool)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is  seen () in\tcells.", "It is seen in cells."),
        ("It was held.12", "It was held."),
        ("It was held.[3][4]", "It was held."),
        ("It rose by 1.5", "It rose by 1.5"),
    ],
)
def test_a_sentence_in_one_line(text: str, expected: str) -> None:
    assert in_one_line(text) == expected


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("The oak is dried in the open air.", True),
        ("The oak (and the ash) is “dried” there.", True),
        ("The oak is shown in .", False),
        ("The oak (see ) is dried in the air.", False),
        ("The oak (and the ash is dried there.", False),
        ("The oak is “dried in the open air.", False),
        ("The oak is dried. shows how it is done.", False),
        ("The oak is sold at www.example.org today.", False),
        ("Lund, K., Weber, A., and Okoye, B. Oak.", False),
        ("Oak is dried.", False),
    ],
)
def test_a_sound_sentence(text: str, sound: bool) -> None:
    assert SentenceCheck(load_language("en")).is_sound(text) is sound


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("The oak is dried.", True),
        ("Itemised bills are sent.", True),
        ("It is dried.", False),
        ("However, oak is dried.", False),
        ("In addition, oak is dried.", False),
        ("“These boards are dry,” he said.", False),
    ],
)
def test_a_sentence_that_stands_alone(text: str, alone: bool) -> None:
    assert SentenceCheck(load_language("en")).stands_alone(text) is alone
