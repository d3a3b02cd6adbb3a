"""Answers of a model as text, and which of them can be used."""

from __future__ import annotations

import pytest

from cpt.corpus.study.language import load_language
from cpt.corpus.study.write.filters import Filters
from cpt.corpus.study.write.parsing import cleaned, listed, pairs, whole_sentences, without_introduction

PASSAGE = (
    "The Orla rises in a bog above Hame and is 1,240 kilometres long. Its bed consists of basalt, which "
    "gives the water a faint colour in spring. The ferrymen's guild built the first lock."
)


@pytest.fixture
def filters() -> Filters:
    return Filters(load_language("en"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>Hm.\nWell.</think>\n\nThe end.", "The end."),
        ("well, so it is</think>The end.", "The end."),
        ("<think>never done", ""),
        ("```text\nThe end.\n```", "The end."),
        ("The\x00 end\x1b[31m.\ud800", "The end[31m."),
        ("One.\r\nTwo.", "One.\nTwo."),
    ],
)
def test_an_answer_is_only_text(text: str, expected: str) -> None:
    assert cleaned(text) == expected


def test_an_introduction_is_left_out_and_a_first_line_is_not() -> None:
    words = load_language("en").of("write", "introductions")
    assert without_introduction("**Here is the text:**\n\nRivers run.", words) == "Rivers run."
    assert without_introduction("Rivers have parts:\nsource and mouth.", words).startswith("Rivers have")
    assert without_introduction("Here is all of it:", words) == "Here is all of it:"


def test_a_text_that_is_cut_off_ends_with_a_sentence() -> None:
    assert whole_sentences('It runs. "It ends!" It jo') == 'It runs. "It ends!"'
    assert whole_sentences("no sentence at all") == ""


@pytest.mark.parametrize(
    "text",
    [
        "Q: What is it?\nA: basalt\nQ: Who built it?\nA: the guild",
        "1. **Question:** What is it?\n   **Answer:** basalt.\n\n"
        "2. **Question:** Who built it?\n   **Answer:** the guild",
        "Question 1: What is it?\nAnswer 1: basalt\n\nQuestion 2: Who built it?\nAnswer 2:\nthe guild",
        "Q: What is it? A: basalt\nQ: Who built it? **A:** the guild",
        "Here are two:\n- Q: What is it?\n- A: basalt\n\nQ: And this?\n\nQ: Who built it?\nA: the guild",
    ],
)
def test_questions_are_read_in_their_usual_forms(text: str) -> None:
    assert list(pairs(text)) == [("What is it?", "basalt"), ("Who built it?", "the guild")]


def test_text_without_questions_has_none() -> None:
    assert list(pairs("A river runs. Answers: none.\nQ: And why?")) == []


def test_lists_lose_their_marks() -> None:
    assert list(listed("1. Draw it.\n(2) Tell it.\n- **Sing it.**\n\n• Dance it.")) == [
        "Draw it.",
        "Tell it.",
        "Sing it.",
        "Dance it.",
    ]


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [
        ("the basalt", True),
        ("A BOG above Hame.", True),
        ("1240 kilometres", True),
        ("ferrymen's guild", True),
        ("salt", False),
        ("1,24", False),
        ("basalt gives", False),
        ("the", False),
    ],
)
def test_an_answer_is_found_by_its_words(filters: Filters, answer: str, is_there: bool) -> None:
    assert filters.holds(PASSAGE, answer) is is_there


@pytest.mark.parametrize(
    ("question", "answer", "problem"),
    [
        ("Of what does the bed of the Orla consist?", "basalt", ""),
        ("Name the stone in the bed of the Orla.", "basalt", "no_question"),
        ("Why?", "basalt", "length"),
        ("Of what does the bed of the Orla consist?", "basalt " * 40, "length"),
        ("Is the bed of the Orla made of basalt?", "Yes.", "yes_or_no"),
        ("According to the passage, what is the bed made of?", "basalt", "refers_to_the_text"),
        ("What does the Table say about the textbook?", "basalt", "refers_to_the_text"),
        ("Which textbook is the best of all?", "basalt", ""),
        ("What is the basalt in the bed of the Orla?", "the basalt", "answer_in_question"),
        ("Of what does the bed of the Orla consist?", "...", "answer_in_question"),
    ],
)
def test_questions_that_nobody_could_answer_are_refused(
    filters: Filters, question: str, answer: str, problem: str
) -> None:
    assert filters.question_problem(question, answer) == problem


def test_a_question_like_another_is_a_duplicate(filters: Filters) -> None:
    filters.use("Of which stone does the bed of the river Orla consist?")
    same = (
        "of which Stone does a bed of the river Orla consist?",
        "Of which stone does the bed of the Orla consist?",
        "Of which stone does the whole bed of the river Orla mainly consist?",
        "The bed of the river Orla does consist of which stone?",
    )
    other = (
        "Of which stone does the bed of the river Vesk consist?",
        "Of which stone does the bank of the river Orla consist?",
        "Who built the first lock on the Orla?",
    )
    assert [filters.question_problem(each, "basalt") for each in same] == ["duplicate"] * 4
    assert [filters.question_problem(each, "basalt") for each in other] == [""] * 3


def test_duplicates_are_found_among_many(filters: Filters) -> None:
    for number in range(300):
        filters.use(f"What is the name of the village at kilometre {number}?")
    assert (
        filters.question_problem("What is the name of the village at kilometre 299?", "Hame") == "duplicate"
    )
    assert filters.question_problem("What is the name of the village at kilometre 300?", "Hame") == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A bog above Hame is where the Orla begins; basalt lies under it and tints it every spring.", ""),
        (
            "I'm sorry, but I can't help with this text about rivers and the stones that lie in them.",
            "declined",
        ),
        ("The Orla is long.", "too_short"),
        ("Rivers run on, and so does this; " * 100, "too_long"),
        ("It runs. " * 60, "repetitive"),
        (PASSAGE.replace("faint", "pale"), "copied"),
    ],
)
def test_texts_that_teach_nothing_are_refused(filters: Filters, text: str, problem: str) -> None:
    assert filters.text_problem(text, PASSAGE, rephrased=True) == problem


def test_answers_agree_by_their_words(filters: Filters) -> None:
    assert filters.agree("The ferrymen's guild", "ferrymen's guild.")
    assert not filters.agree("the ferrymen's guild", "the miners' guild")
    assert not filters.agree("the", "a")
