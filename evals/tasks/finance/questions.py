"""Answers to questions on reports: a number, yes or no, or a text."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evals.tasks.finance.numbers import equal, numbers, stated_number

_PLACE = re.compile(r"\{answer(\d+)\}")
_METRICS = "metrics-generated"


def result(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The result of a calculation: as the same text (FLARE's exact match), and as the same number."""
    written, right = results[0], str(doc["answer"]).strip()
    asked = str(doc.get("question", doc.get("query", "")))
    return {
        "exact_match": float(first_line(written) == right),
        "acc": float(same_result(written, right, asked)),
    }


def same_result(written: str, right: str, question: str = "") -> bool:
    """Return True if an answer says yes or no as it should, or states the right number.

    Yes and no are said by the first word, or by the first after "answer is".
    """
    number = next(iter(numbers(right)), None)
    if number is None:
        said = re.split(r"\banswer is\b", written.lower())[-1]
        return re.findall(r"[a-z]+", said)[:1] == [right.lower()]
    found = stated_number(written, question)
    return found is not None and equal(found, number)


def overlap(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Words that a free answer shares with the right one, as F1 (SQuAD's: Rajpurkar et al. 2016)."""
    return {"f1": word_f1(first_line(results[0]), str(doc["answer"]))}


def first_line(text: str) -> str:
    """The first line that is not empty: models without examples often begin an answer with a new line."""
    return text.strip().split("\n")[0].strip()


def word_f1(written: str, right: str) -> float:
    """F1 of words as multisets, without case, punctuation and articles."""
    found, wanted = Counter(_words(written)), Counter(_words(right))
    both = (found & wanted).total()
    return 2 * both / (found.total() + wanted.total()) if both else 0.0


def with_right_history(docs: Any) -> Any:
    """Put the right answers of earlier turns where FLARE's prompts have `{answer0}`, `{answer1}` …

    FLARE puts the model's own there; so a turn would depend on the answers to others, and could not be asked
    alone. BloombergGPT (Wu et al. 2023, arXiv:2303.17564) conditions on the right ones too.
    """
    answers = {(doc["dialogue_id"], doc["turn"]): doc["answer"] for doc in docs}

    def filled(doc: dict[str, Any]) -> dict[str, Any]:
        query = _PLACE.sub(lambda place: answers[doc["dialogue_id"], int(place[1])], doc["query"])
        return {**doc, "query": query}

    return docs.map(filled)


def only_metrics(docs: Any) -> Any:
    """FinanceBench's questions for a number."""
    return _with_evidence(docs.filter(lambda doc: doc["question_type"] == _METRICS))


def without_metrics(docs: Any) -> Any:
    """FinanceBench's questions for words."""
    return _with_evidence(docs.filter(lambda doc: doc["question_type"] != _METRICS))


def _with_evidence(docs: Any) -> Any:
    """Join the pieces of evidence to one text, which is all that the prompt shows of the report."""
    return docs.map(lambda doc: {"filing": "\n\n".join(part["evidence_text"] for part in doc["evidence"])})


def _words(text: str) -> list[str]:
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in plain.split() if word not in {"a", "an", "the"}]
