"""Questions that stand in a text with their answers, and questions that do not."""

from __future__ import annotations

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.existing import Existing

FOUND = [
    (
        "Q: What holds the staves together?\nA: Hoops of iron.",
        "What holds the staves together?",
        "Hoops of iron.",
    ),
    ("Q. What holds the staves together?\n\nA: Hoops.\n", "What holds the staves together?", "Hoops."),
    (
        "Question 3: Which wood bends best? Answer: Ash, when it was steamed.",
        "Which wood bends best?",
        "Ash, when it was steamed.",
    ),
    ("12. Which wood bends best?\nAnswer: Ash", "Which wood bends best?", "Ash"),
    (
        "1) How long does oak last under water?\nSolution: Oak under water\nlasts for ages.\nMore on that.",
        "How long does oak last under water?",
        "Oak under water lasts for ages.",
    ),
    (
        "What Is a Croze?\nCoopers use planes. A croze (groove) is a cut that holds the head. It is deep.",
        "What Is a Croze?",
        "A croze (groove) is a cut that holds the head.",
    ),
    (
        "Does oak float on water?\nYes, dry oak floats on water for a while. It sinks later.",
        "Does oak float on water?",
        "Yes, dry oak floats on water for a while.",
    ),
]
NOT_FOUND = [
    "Which wood bends best?\nWhich wood lasts longest?",
    "Why is oak used for casks?\nOak is hard to find in the north of the land.",
    "1. Which wood bends best?\nAnswer: C",
    "1. Which wood bends best?\nAnswer: See page 12.",
    "1. Which of the following bends best?\nA. Ash\nB. Oak\nAnswer: A",
    "1. Which wood do you like best?\nAnswer: Ash",
    "Q: Why?\nA: Well, ash bends.",
    "Q: What did he say about it?\nA: Nothing at all.",
    "What is shown in the figure?\nAnswer: A cask of oak.",
    "Which wood bends best?\nThe answer is known to coopers.\nAnswer: Ash",
    f"Which wood bends best?\nAnswer: {'ash and ' * 50}oak.",
    "WHAT IS A CROZE?\nA croze is a cut that holds the head.",
    "What is a croze?\nThe cooper cuts it with a plane of its own.",
]


def mined(text: str) -> list[Item]:
    return list(Existing(load_language("en")).mine(Document("one", text)))


@pytest.mark.parametrize(("text", "question", "answer"), FOUND)
def test_a_question_with_its_answer(text: str, question: str, answer: str) -> None:
    (item,) = mined(f"Casks\n{text}")
    assert (item.task, item.answer) == ("existing.answer", answer)
    assert item.fields == {"question": question}
    assert item.fact == question.lower()
    assert item.options == ()
    start, end = item.span
    assert f"Casks\n{text}"[start:end].endswith(answer[-6:])


@pytest.mark.parametrize("answer", ["B", "b.", "(B)", "B. Ash", "b) Ash"])
def test_the_letter_of_an_option_becomes_its_text(answer: str) -> None:
    (item,) = mined(f"4. Which wood bends best?\na. Oak\nb. Ash\nc. Elm\nAnswer: {answer}")
    assert item.answer == "Ash"
    assert item.options == ("Oak", "Ash", "Elm")


@pytest.mark.parametrize(("letter", "answer"), [("A", "Splitting"), ("C", "Bending"), ("E", "Toasting")])
def test_options_that_stand_in_a_text_twice_are_one(letter: str, answer: str) -> None:
    options = "A. Splitting\nB. Bending\nC. bending\nD. (  )\nE. Toasting"
    (item,) = mined(f"4. Which step follows drying?\n{options}\nAnswer: {letter}")
    assert item.options == ("Splitting", "Bending", "Toasting")
    assert item.answer == answer


@pytest.mark.parametrize(
    "options",
    [
        "A. Bending\nB. bending\nC. Toasting\nAnswer: A",
        "A. True\nB. False\nAnswer: A",
        "A. Bending\nB. ( )\nC. Toasting\nAnswer: A",
        "A. Bending\nB. Splitting\nC. Toasting\nD. ( )\nAnswer: D",
        "A. Bending\nB. Splitting\nC. Toasting\nAnswer: D",
    ],
)
def test_too_few_options_or_an_answer_that_is_none_of_them(options: str) -> None:
    assert mined(f"4. Which step follows drying?\n{options}") == []


@pytest.mark.parametrize("text", NOT_FOUND)
def test_questions_without_an_answer_of_their_own(text: str) -> None:
    assert mined(text) == []


def test_a_long_answer_ends_with_a_sentence_and_a_question_counts_once() -> None:
    long = " ".join(f"Reason number {number} is the grain of the wood." for number in range(20))
    (item,) = mined(f"Q: Which wood bends best?\nA: {long}\nQ: Which wood bends best?\nA: Oak.")
    assert long.startswith(item.answer)
    assert item.answer.endswith(".")
    assert 250 < len(item.answer) <= 300


def test_wordings_have_places_of_the_items() -> None:
    language = load_language("en")
    for wording in (*language.trained["existing.answer"], *language.unseen["existing.answer"]):
        assert places(wording) == {"question"}
