"""Golden Touchstone's scoring (Wu et al. 2024, arXiv:2411.06272, table 3 and its evaluate_all.py).

A label is the first of a task's words in what was written. Where there is none the benchmark draws one of
the wrong labels; here it counts as a label of its own, which is as wrong and the same in every run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evals.tasks.finance.entities import answer_entities
from evals.tasks.finance.questions import first_line

NONE = "none"
_MOVEMENTS = {"rise": "1", "decrease": "0"}

Doc = Mapping[str, Any]


def sentiment(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Positive, negative or neutral."""
    return _labelled(doc, results, ("positive", "negative", "neutral"))


def yes_or_no(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Yes or no."""
    return _labelled(doc, results, ("yes", "no"))


def stance(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Hawkish, dovish or neutral."""
    return _labelled(doc, results, ("hawkish", "dovish", "neutral"))


def credit(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Good or bad."""
    return _labelled(doc, results, ("good", "bad"))


def letter(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """One of four choices."""
    return _labelled(doc, results, ("a", "b", "c", "d"))


def movement(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """1 for a rise, 0 for a fall, as a figure or in words."""
    return _labelled(doc, results, ("0", "1", *_MOVEMENTS))


def contains(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Whether the right answer stands in what was written (the paper's RMACC)."""
    right = doc["output"].strip().lower().split("the answer is:")[-1].strip()
    return {"acc": float(right in results[0].lower())}


def entities(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Entities found and right, found, and right, by name and type."""
    found, right = (Counter(_entities(text)) for text in (_first_block(results[0]), doc["output"]))
    return {"entity_f1": ((found & right).total(), found.total(), right.total())}


def relations(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Relations found and right, found, and right; each is `relation: head, tail` or only its name."""
    found, right = (_relations(text) for text in (first_line(results[0]), doc["output"]))
    return {"entity_f1": (len(found & right), len(found), len(right))}


def summary(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L as F1."""
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    names = ("rouge1", "rouge2", "rougeL")
    scores = RougeScorer(names).score(doc["output"], results[0])
    return {name: float(scores[name].fmeasure) for name in names}


def _labelled(doc: Doc, results: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    predicted, right = (_label(text, words) for text in (results[0], doc["output"]))
    pair = (right, predicted)
    return {"acc": float(right == predicted), "weighted_f1": pair, "mcc": pair}


def _label(text: str, words: Sequence[str]) -> str:
    match = re.search(rf"\b({'|'.join(words)})\b", text.lower())
    return _MOVEMENTS.get(match[1], match[1]) if match else NONE


def _first_block(text: str) -> str:
    return text.strip().split("\n\n")[0]


def _entities(text: str) -> list[tuple[str, str]]:
    return [(" ".join(name.lower().split()), kind) for name, kind in answer_entities(text)]


def _relations(text: str) -> set[tuple[str, ...]]:
    """Relations of an answer as their words, without case, underscores and the spaces between."""
    pieces = (re.split(r"[:,]", piece) for piece in text.strip().rstrip(".").split(";"))
    plain = (tuple(" ".join(part.lower().replace("_", " ").split()) for part in piece) for piece in pieces)
    return {relation for relation in plain if any(relation)}
