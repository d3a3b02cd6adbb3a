"""Score finance tasks: labels by likelihood, numbers and words of written answers, named entities.

Numbers are read as financial texts write them: $1,577.00, (12.6), -0.5 %. Entities are written one a line, as
`name, type`.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Likelihoods = Sequence[tuple[float, bool]]
"""Log-likelihood in nats and whether the choice is the greedy one, for every choice."""


def by_label(doc: Mapping[str, Any], results: Likelihoods) -> dict[str, Any]:
    """Compare the likeliest choice with the right one (index in `gold`)."""
    return _scores(doc["gold"], results)


def by_stance(doc: Mapping[str, Any], results: Likelihoods) -> dict[str, Any]:
    """Compare the likeliest choice with the right one (index in `label`)."""
    return _scores(doc["label"], results)


def by_tag(doc: Mapping[str, Any], results: Likelihoods) -> dict[str, Any]:
    """Compare the likeliest choice with the right one for headlines, grouped by the tag of the question."""
    scores = _scores(doc["gold"], results)
    return {"acc": scores["acc"], "mean_weighted_f1": (doc["label_type"], *scores["weighted_f1"])}


def one_tag_of_each_headline(docs: Any) -> Any:
    """Order examples so that the first tag of the first headline comes first, then the second of the second …

    In the data all tags of a headline follow each other, so that the first few examples would be of one.
    """
    headlines = {text: number for number, text in enumerate(dict.fromkeys(docs["text"]))}
    tags = {tag: number for number, tag in enumerate(dict.fromkeys(docs["label_type"]))}
    places = [
        ((tags[tag] - headlines[text]) % len(tags), headlines[text])
        for text, tag in zip(docs["text"], docs["label_type"], strict=True)
    ]
    return docs.select(sorted(range(len(places)), key=places.__getitem__))


def _scores(gold: int, results: Likelihoods) -> dict[str, Any]:
    predicted = int(np.argmax([likelihood for likelihood, _ in results]))
    return {"acc": float(predicted == gold), "weighted_f1": (int(gold), predicted)}


DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<before>(?<![\w%)])[-\u2212])?(?P<open>\()?[$€£¥]?(?P<after>[-\u2212]|\()?(?<![\w.,])(?P<digits>{DIGITS})"
)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_STATES = re.compile(r"\banswer is\b|=", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}|=")
_REMARK = re.compile(r"\([^\W\d_][^()]*\)")
_EXACT = 5
"""Decimals to which a number without a point is compared."""
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Number:
    """A number and its written decimals (None without a point)."""

    value: float
    decimals: int | None


def numbers(text: str) -> list[Number]:
    """Return the numbers of a text that are not part of a word (FY2018), in order.

    Brackets around one or a dash right before it make it negative; a percent sign changes nothing.
    """
    return [_number(text, match) for match in _NUMBER.finditer(text)]


def stated_number(text: str, question: str = "") -> Number | None:
    """Return the number that an answer states, or None if it has none.

    The last number after the last "answer is" or "=", up to the end of that line; without such words the last
    number of the first line, as where this line has no words at all ("$1,577"). Years that the question names
    ("In 2018 it was 65.4%") do not count, unless there is no other number. Nor do those of a remark
    in brackets ("65.4% (rounded to 1 decimal)").
    """
    years = {float(year) for year in _YEAR.findall(question)}
    lines = [line for line in text.split("\n") if line.strip()]
    first = lines[0] if lines else ""
    stated = [_STATES.split(line)[-1] for line in lines if _STATES.search(line)]
    for place in (first if not _WORD.search(first) else "", *reversed(stated), first):
        plain, whole = numbers(_REMARK.sub(" ", place)), numbers(place)
        for found in (plain, whole):
            candidates = [each for each in found if each.decimals is not None or abs(each.value) not in years]
            if candidates:
                return candidates[-1]
        if whole:
            return (plain or whole)[-1]
    return None


def _number(text: str, match: re.Match[str]) -> Number:
    closed = text[match.end() :].lstrip(" %").startswith(")")
    bracketed = closed and (match["open"] or match["after"] == "(")
    negative = bracketed or match["before"] or match["after"] not in (None, "(")
    digits = match["digits"].replace(",", "")
    _, point, decimals = digits.partition(".")
    return Number(-float(digits) if negative else float(digits), len(decimals) if point else None)


def equal(predicted: Number, right: Number) -> bool:
    """Return True if two numbers are equal, both rounded to the fewer decimals of the two.

    A share and its percentage are equal: 0.654 is 65.4. Program of Thoughts (Chen et al. 2022,
    arXiv:2211.12588) compares answers with FinQA's in this way. Here the rounding may also not change the
    value by more than 1 %, so that 0.1 is not 0.141.
    """
    return any(_same(predicted, right.value * factor, right.decimals, shift) for factor, shift in _FACTORS)


_FACTORS = ((1.0, 0), (100.0, -2), (0.01, 2))


def _same(predicted: Number, right: float, decimals: int | None, shift: int) -> bool:
    places = min(
        _EXACT if predicted.decimals is None else predicted.decimals,
        _EXACT if decimals is None else max(0, decimals + shift),
    )
    close = math.isclose(predicted.value, right, rel_tol=_TOLERANCE, abs_tol=10.0**-_EXACT)
    return close and math.isclose(
        round(predicted.value, places), round(right, places), abs_tol=10.0 ** -(_EXACT + 1)
    )


_PLACE = re.compile(r"\{answer(\d+)\}")
_METRICS = "metrics-generated"


def result(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score the result of a calculation: as the same text (FLARE's exact match), and as the same number."""
    written, right = results[0], str(doc["answer"]).strip()
    asked = str(doc.get("question", doc.get("query", "")))
    return {
        "exact_match": float(first_line(written) == right),
        "acc": float(same_result(written, right, asked)),
    }


def same_result(written: str, right: str, question: str = "") -> bool:
    """Return True if an answer says yes or no as it should, or states the right number.

    The first word, or the first after "answer is", is yes or no.
    """
    number = next(iter(numbers(right)), None)
    if number is None:
        answer = re.split(r"\banswer is\b", written.lower())[-1]
        return re.findall(r"[a-z]+", answer)[:1] == [right.lower()]
    found = stated_number(written, question)
    return found is not None and equal(found, number)


def overlap(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score the words shared with the right answer, as F1 (SQuAD's: Rajpurkar et al. 2016)."""
    return {"f1": word_f1(first_line(results[0]), str(doc["answer"]))}


def first_line(text: str) -> str:
    """Return the first line that is not empty: without examples, models often begin with a new line."""
    return text.strip().split("\n")[0].strip()


def word_f1(written: str, right: str) -> float:
    """Compute the F1 of words as multisets, without case, punctuation and articles."""
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
    """Choose FinanceBench's questions for a number."""
    return _with_evidence(docs.filter(lambda doc: doc["question_type"] == _METRICS))


def without_metrics(docs: Any) -> Any:
    """Choose FinanceBench's questions for words."""
    return _with_evidence(docs.filter(lambda doc: doc["question_type"] != _METRICS))


def _with_evidence(docs: Any) -> Any:
    """Join the pieces of evidence to one text: the prompt shows no more of the report."""
    return docs.map(lambda doc: {"filing": "\n\n".join(part["evidence_text"] for part in doc["evidence"])})


def _words(text: str) -> list[str]:
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in plain.split() if word not in {"a", "an", "the"}]


TYPES = ("PER", "ORG", "LOC")

Span = tuple[int, int, str]
"""Index of the first word, index after the last word, type."""


def entity_counts(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Count entities that are found and right, found, and right; right means all words and the type."""
    found, right = predicted_spans(results[0], doc["text"].split()), tagged_spans(doc["label"])
    return {"entity_f1": (len(found & right), len(found), len(right))}


def tagged_spans(tags: Sequence[str]) -> set[Span]:
    """Return the entities of BIO tags; an I- that continues no entity of its type begins one (CoNLL)."""
    spans: set[Span] = set()
    begin, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, named = tag.partition("-")
        if kind and (mark != "I" or named != kind):
            spans.add((begin, place, kind))
            kind = ""
        if mark != "O" and not kind:
            begin, kind = place, named
    return spans


def predicted_spans(answer: str, words: Sequence[str]) -> set[Span]:
    """Return the spans of an answer's entities in a text: all occurrences of a name's words.

    As in FLARE a word has one tag, the later line's; lines that are not a name and a type say nothing.
    """
    tags = ["O"] * len(words)
    for name, kind in answer_entities(answer):
        for begin in _occurrences(name.split(), words):
            length = len(name.split())
            tags[begin : begin + length] = [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    return tagged_spans(tags)


def answer_entities(answer: str) -> list[tuple[str, str]]:
    """Return the names and types in the lines of an answer."""
    lines = (line.rpartition(",") for line in answer.strip().split("\n"))
    pairs = [(name.strip(), kind.strip()) for name, _, kind in lines]
    return [(name, kind) for name, kind in pairs if name and kind in TYPES]


def _occurrences(name: Sequence[str], words: Sequence[str]) -> list[int]:
    last = len(words) - len(name)
    return [place for place in range(last + 1) if list(words[place : place + len(name)]) == list(name)]
