"""Score Golden Touchstone's tasks, after its evaluate_all.py (Wu et al. 2024, arXiv:2411.06272).

A label is the first of a task's words in the written answer. Where there is none, the benchmark draws one of
the wrong labels. Here it counts as a label of its own, which is as wrong and the same in every run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.tasks.finance.scoring import TYPES, tagged_spans

NONE = "none"

Doc = Mapping[str, Any]

_MOVEMENTS = {"rise": "1", "decrease": "0"}
_ENTITY = re.compile(r"([\w\s]+),\s*([A-Z]+)")
_RELATION = re.compile(r"^(.*?):(.*?)?,(.*)?$")
_WITH_WORDS = "relation1: word1, word2"
_RELATIONS = frozenset(
    {
        "product_or_material_produced",
        "manufacturer",
        "distributed_by",
        "industry",
        "position_held",
        "original_broadcaster",
        "owned_by",
        "founded_by",
        "distribution_format",
        "headquarters_location",
        "stock_exchange",
        "currency",
        "parent_organization",
        "chief_executive_officer",
        "director_/_manager",
        "owner_of",
        "operator",
        "member_of",
        "employer",
        "chairperson",
        "platform",
        "subsidiary",
        "legal_form",
        "publisher",
        "developer",
        "brand",
        "business_division",
        "location_of_formation",
        "creator",
    }
)
"""Names of relations in the benchmark's script."""


def sentiment(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score a sentiment: positive, negative or neutral."""
    return _labelled(doc, results, _first_of("positive", "negative", "neutral"))


def yes_or_no(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score yes or no."""
    return _labelled(doc, results, _first_of("yes", "no"))


def stance(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score a stance: hawkish, dovish or neutral."""
    return _labelled(doc, results, _first_of("hawkish", "dovish", "neutral"))


def credit(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score a credit: good or bad."""
    return _labelled(doc, results, _first_of("good", "bad"))


def letter(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score one of four choices."""
    return _labelled(doc, results, _first_of("a", "b", "c", "d"))


def movement(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score a movement, 1 for a rise, 0 for a fall: the first such figure or, without one, word."""
    return _labelled(doc, results, _movement)


def contains(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Score 1 if the written answer contains the right one (the paper's RMACC)."""
    right = doc["output"].strip().lower().split("the answer is:")[-1].strip()
    return {"acc": float(right in results[0].lower())}


def entities(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Count entities of each type that are found and right, found, and right, as tags of the text's words.

    The right tags are the data's or, where they are missing, those of the right answer.
    """
    words = doc["input"].strip().lower().split()
    right = tagged_spans(doc["label"] if "label" in doc else _tags(words, doc["output"]))
    found = tagged_spans(_tags(words, results[0]))
    return {
        "weighted_f1": tuple(
            sum(span[2] == kind for span in spans)
            for kind in TYPES
            for spans in (found & right, found, right)
        )
    }


def relations(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """Count relations that are right, written, and wanted, piece by piece in the same position.

    As in the script, a wrong piece counts as missed only if it names no relation.
    """
    with_words = _WITH_WORDS in f"{doc['instruction']}\n{doc['input']}"
    right = wrong = missed = 0
    pieces = (text.strip(".").split(";") for text in (results[0], doc["output"]))
    for written, wanted in zip(*pieces, strict=False):
        predicted, expected = _relation_pair(written, wanted, with_words)
        right += predicted == expected
        wrong += predicted != expected
        missed += "_".join(predicted[0].split()) not in _RELATIONS
    return {"relation_f1": (right, right + wrong, right + missed)}


def _labelled(doc: Doc, results: Sequence[str], label: Callable[[str], str]) -> dict[str, Any]:
    pair = (label(doc["output"].lower()), label(results[0].lower()))
    return {
        "acc": float(pair[0] == pair[1]),
        **dict.fromkeys(("acc_f1", "f1_mcc", "weighted_f1", "mcc"), pair),
    }


def _first_of(*words: str) -> Callable[[str], str]:
    pattern = re.compile(rf"\b({'|'.join(words)})\b")

    def label(text: str) -> str:
        match = pattern.search(text)
        return match[1] if match else NONE

    return label


def _movement(text: str) -> str:
    figure = _first_of("0", "1")(text)
    return figure if figure != NONE else _MOVEMENTS.get(_first_of(*_MOVEMENTS)(text), NONE)


def _tags(words: Sequence[str], answer: str) -> list[str]:
    """Tag each entity of an answer at its first place that no other has; unknown types are organisations."""
    tags = ["O"] * len(words)
    for name, named in _ENTITY.findall(answer):
        parts = name.lower().split()
        kind = named if named in TYPES else "ORG"
        for begin in range(len(words) - len(parts) + 1) if parts else ():
            place = slice(begin, begin + len(parts))
            if list(words[place]) == parts and set(tags[place]) == {"O"}:
                tags[place] = [f"B-{kind}", *[f"I-{kind}"] * (len(parts) - 1)]
                break
    return tags


def _relation_pair(written: str, wanted: str, with_words: bool) -> tuple[list[str], list[str]]:
    """Return (relation, head, tail) of two pieces, or the relation alone where the prompt asks no more."""
    if with_words:
        predicted, expected = (_parts(_RELATION.match(piece)) for piece in (written, wanted))
    else:
        name = wanted.replace("_", " ")
        predicted, expected = [name if name in written.split(",")[0] else "unknown"], [wanted]
    return _plain(predicted), _plain(expected)


def _parts(match: re.Match[str] | None) -> list[str]:
    return [part or "" for part in match.groups()] if match else ["", "", ""]


def _plain(parts: Sequence[str]) -> list[str]:
    return [part.strip() for part in (parts[0].replace("_", " "), *parts[1:])]
