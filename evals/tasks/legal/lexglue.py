"""LexGLUE's tasks as prompts for language models, and their scoring (Chalkidis 2023, arXiv:2304.12202)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.sources.legal import ISSUE_AREAS, PROVISIONS, UNFAIR

_WORDS = 3000
_NONE = "None"


def scotus(doc: Mapping[str, Any]) -> str:
    """Prompt for the issue area of an opinion of the US Supreme Court."""
    return _prompt(
        "Given the following opinion from the Supreme Court of USA (SCOTUS):",
        " ".join(doc["text"].split(" ")[:_WORDS]),
        "Which topics are relevant out of the following options:",
        ISSUE_AREAS,
        "The relevant option is:",
    )


def ledgar(doc: Mapping[str, Any]) -> str:
    """Prompt for the title of a contract's provision."""
    return _prompt(
        "Given the following contractual section:",
        _mended(doc["text"]),
        "There is an appropriate section title out of the following options:",
        PROVISIONS,
        "The most appropriate option is:",
    )


def unfair_tos(doc: Mapping[str, Any]) -> str:
    """Prompt for the kinds of unfairness of a sentence of terms of service."""
    return _prompt(
        "Given the following sentence from an online Term of Services:",
        _mended(doc["text"]),
        "The sentence is unfair with respect to some of the following options:",
        [*UNFAIR, _NONE],
        "The relevant options are:",
    )


def case_hold(doc: Mapping[str, Any]) -> str:
    """Prompt for the holding that an excerpt of an opinion cites."""
    return _prompt(
        "Given the following excerpt from a US court opinion:",
        doc["contexts"][0].replace("<HOLDING>", "[Masked Holding]"),
        "The [Masked Holding] is a placeholder for one of the following options:",
        doc["endings"],
        "The relevant option is:",
    )


def issue_areas(doc: Mapping[str, Any]) -> list[str]:
    """The choices of `scotus`."""
    del doc
    return list(ISSUE_AREAS)


def provisions(doc: Mapping[str, Any]) -> list[str]:
    """The choices of `ledgar`."""
    del doc
    return list(PROVISIONS)


def unfair_terms(doc: Mapping[str, Any]) -> str:
    """The answer that is wanted of `unfair_tos`."""
    return ", ".join(UNFAIR[label] for label in sorted(doc["labels"])) or _NONE


def named_terms(doc: Mapping[str, Any], texts: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """How many labels the answer names rightly, how many it names, and how many are right."""
    said = texts[0].lower()
    named = {label for label in (*UNFAIR, _NONE) if label.lower() in said}
    right = {UNFAIR[label] for label in doc["labels"]} or {_NONE}
    return {"micro_f1": (len(named & right), len(named), len(right))}


def _prompt(introduction: str, text: str, presentation: str, options: Iterable[str], question: str) -> str:
    listed = "\n".join(f"- {option}" for option in options)
    return f'{introduction}\n"{text}"\n\n{presentation}\n{listed}\n{question}'


def _mended(text: str) -> str:
    """The text without the spaces and quotation marks of its tokeniser."""
    for written, meant in ((" ,", ","), (" .", "."), ("\n", " "), ("`` ", "'"), (" ''", "'")):
        text = text.replace(written, meant)
    return text.strip()
