"""Questions of benchmark items, found with their answers in other words' clothes: labels, letters, case."""

from __future__ import annotations

import pytest

from evals.answered_questions import AnsweredQuestions

CELL = "What is the power house of a cell?"
ITEMS = {
    "cloze": {"1": (f"Question: {CELL}\nAnswer:", "the mitochondrion"), "2": ("Bees make", "honey", "wax")},
    "letters": {"3": ("Which one beats?\nA. the liver\nB. the heart\n(C) a drum\nAnswer:", "B")},
    "file": {"7": ("Is it long?", "a text that is neither", "yes", "no")},
    "alone": {"8": ("One text has no answer",)},
}


@pytest.mark.parametrize(
    ("question", "answer", "found"),
    [
        (CELL, "the mitochondrion", ("cloze", "1")),
        ("what is the POWER house of a “cell”", "The  mitochondrion.", ("cloze", "1")),
        (f"Question: {CELL}", "the mitochondrion", ("cloze", "1")),
        ("Bees make", "wax", ("cloze", "2")),
        ("Which one beats?", "the heart", ("letters", "3")),
        ("Which one beats?", "B", ("letters", "3")),
        ("Which one beats?", "the liver", None),
        ("Is it long?", "no", ("file", "7")),
        (CELL, "a mitochondrion", None),
        (f"{CELL} Think", "the mitochondrion", None),
        ("What is the power house", "the mitochondrion", None),
        ("Bees make", "", None),
        ("", "honey", None),
        ("?!", "honey", None),
        ("One text has no answer", "One text has no answer", None),
    ],
)
def test_question_and_answer_must_both_be_the_items(
    question: str, answer: str, found: tuple[str, str] | None
) -> None:
    assert AnsweredQuestions(ITEMS).find([question], answer) == found


def test_one_of_several_wordings_is_enough() -> None:
    search = AnsweredQuestions(ITEMS)
    assert search.find(["Name it", CELL], "the mitochondrion") == ("cloze", "1")
    assert search.find([], "the mitochondrion") is None


def test_wordings_are_made_only_where_the_answer_is_known() -> None:
    def wordings() -> None:
        raise AssertionError

    assert AnsweredQuestions(ITEMS).find(map(str, iter(wordings, None)), "unknown") is None


def test_words_of_scripts_without_spaces_are_compared_too() -> None:
    search = AnsweredQuestions({"ja": {"1": ("質問\uff1a心臓は何\uff1f\n回答\uff1a", "臓器")}})
    assert search.find(["心臓は何?"], "臓器") == ("ja", "1")
    assert search.find(["心臓は"], "臓器") is None
