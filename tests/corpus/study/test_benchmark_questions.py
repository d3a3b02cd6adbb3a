"""Study items that a benchmark asks: found by any of their wordings, counted by task, with examples."""

from __future__ import annotations

import pytest
from invented import LINES, definition, glossary_text, term

from cpt.corpus.documents import Document
from cpt.corpus.study.benchmark_questions import SAME_QUESTION, BenchmarkQuestions, questions_of
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.mining import Mining
from evals.answered_questions import AnsweredQuestions

ENGLISH = load_language("en")
DEFINE = Item("glossary.define", "salt mill", "it grinds", {"term": "salt mill"})


def test_what_an_item_asks_is_in_lines_that_name_it() -> None:
    asked = set(questions_of(DEFINE, ENGLISH))
    assert {"Question: What is salt mill?", " What is salt mill?", "Define salt mill.", "salt mill:"} <= asked
    assert all("salt mill" in each for each in asked)
    assert not any("{" in each for each in asked)
    choice = Item(
        "choice.choose", "mill", "mill", {"sentence": "A ____ grinds."}, ("mill", "sea", "cup", "hat")
    )
    assert "A ____ grinds." in set(questions_of(choice, ENGLISH))


@pytest.mark.parametrize("task", sorted(ENGLISH.trained))
def test_a_task_asks_something_unless_it_asks_about_the_passage_in_sight(task: str) -> None:
    named = {name for wording in ENGLISH.trained[task] for name in places(wording)} - {"options"}
    asked = list(questions_of(Item(task, "f", "a", dict.fromkeys(named, "salt")), ENGLISH))
    assert bool(asked) == bool(named)


def mined(*items: tuple[str, ...]) -> tuple[list[Item], BenchmarkQuestions]:
    known = AnsweredQuestions({"quiz": {str(at): texts for at, texts in enumerate(items)}})
    unwanted = BenchmarkQuestions(known, ENGLISH, "domain")
    documents = [Document(f"doc-{number}", glossary_text(number)) for number in range(3)]
    mining = Mining(
        lambda: iter(documents), ["glossary"], ENGLISH, facts := Facts(1, 17), 17, lambda: documents, unwanted
    )
    assert len(facts) == 3 * LINES, "the document states the fact all the same"
    return [each.item for document in documents for each in mining.items(document)], unwanted


def test_an_item_of_a_benchmark_is_left_out_in_all_its_wordings_but_not_its_fact() -> None:
    every, none = mined()
    assert not none.found
    asked = (f"Question: What is {term(1, 2).upper()}?\nAnswer:", definition(1, 2))
    left, unwanted = mined(asked)
    assert left == [each for each in every if each.answer != definition(1, 2)]
    assert len(left) == len(every) - 1
    assert dict(unwanted.found) == {"quiz": 1}, "once, however often its documents are read"
    (example,) = unwanted.examples
    assert (example.source, example.block, example.id) == ("domain", SAME_QUESTION, "doc-1")
    assert example.detail == "quiz, item 0"
    assert example.before == f"Question: What is {term(1, 2)}?\n{definition(1, 2)}"


def test_another_answer_or_question_is_no_item_of_the_benchmark() -> None:
    every, _ = mined()
    other = mined((f"What is {term(1, 2)}?", definition(1, 3)), (f"Who is {term(1, 2)}?", definition(1, 2)))
    assert other[0] == every
    reverse, unwanted = mined((definition(2, 0), term(2, 0)))
    assert unwanted.found["quiz"] == len(every) - len(reverse) == 2, "a pair of texts has no direction"
