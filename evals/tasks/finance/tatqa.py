"""Score TAT-QA: its questions one by one, by exact match and numeracy-focused F1.

The measures follow the definition in the paper (Zhu et al. 2021, section 5.2) and the official script. A
number is compared as a value with its scale, so 1,496.5 with the scale million is 1496500000. Words are
compared as sets. For calculations and counts F1 is the exact match. The scale is read from the answer.

On the right answers of both splits and variations of them, the script gives the same in 17,741 of 17,773
cases; in the others it takes a text for a number ($18.1 million of lease payments) or applies a scale twice
($3.0 million, million).
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from evals.sources.finance import tatqa_answers
from evals.tasks.finance.scoring import DIGITS, first_line

SCALES = {"": 1.0, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "percent": 0.01}
_QUANTITY = re.compile(
    rf"(?P<minus>[-\u2212])?\s*[$€£¥]?\s*(?P<open>\()?\s*[$€£¥]?\s*(?P<inner>[-\u2212])?(?P<digits>{DIGITS})\s*"
    r"(?P<percent>%|\)\s*%)?\s*(?P<close>\))?\s*(?P<scale>percent|(?:hundred|thousand|million|billion)s?)?\.?"
)
_SCALE = re.compile(r"(?:^|\s)(percent|hundred|thousand|million|billion)s?\.?$")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PARTING = re.compile(r";\s*|,\s+(?:and\s+)?|\s+and\s+")


def one_by_one(docs: Any) -> Any:
    """Make a document of each question, with its table and paragraphs as one text."""
    import datasets

    return datasets.Dataset.from_list(
        [{"context": _context(doc), **_question(asked)} for doc in docs for asked in doc["questions"]]
    )


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a written answer by exact match and F1."""
    text, own_scale = _scale_apart(first_line(results[0]))
    several = doc["answer_type"] == "multi-span"
    pieces = [piece for piece in _PARTING.split(text) if piece] if several else [text]
    exact, f1 = exact_and_f1(pieces, doc["answers"], doc["scale"], own_scale)
    if doc["answer_type"] in ("arithmetic", "count"):
        f1 = exact
    return {"em": exact, "f1": f1}


def exact_and_f1(
    written: Sequence[str], right: Sequence[str], scale: str, own_scale: str = ""
) -> tuple[float, float]:
    """Compute exact match and F1 of the spans of an answer.

    Args:
        written: Spans that a model wrote.
        right: Spans of the data set.
        scale: Scale of the data set's spans.
        own_scale: Scale of the spans that a model wrote.
    """
    wanted = _normal(right, scale)
    candidates = [_normal(written, own_scale), *([] if own_scale else _unrounded(written))]
    scores = [(float(found == wanted), _set_f1(set(found), set(wanted))) for found in candidates]
    return max(scores)


def _scale_apart(text: str) -> tuple[str, str]:
    """Split an answer from the scale at its end, which holds for all its numbers: `99, 93 thousand`."""
    match = _SCALE.search(text.strip().lower())
    return (text.strip()[: match.start()].rstrip(), match[1]) if match else (text.strip(), "")


def _context(doc: Mapping[str, Any]) -> str:
    """Return the table as rows between bars, then the paragraphs in order."""
    rows = ["|" + "|".join(cells) + "|" for cells in doc["table"]["table"]]
    paragraphs = sorted(doc["paragraphs"], key=lambda paragraph: paragraph["order"])
    return "\n".join([*rows, *(paragraph["text"] for paragraph in paragraphs)])


def _question(asked: Mapping[str, Any]) -> dict[str, Any]:
    texts, scale = tatqa_answers(asked["answer"]), asked["scale"]
    shown = ", ".join(texts) + (f" {scale}" if scale else "")
    kept = {"question": asked["question"], "answer_type": asked["answer_type"], "scale": scale}
    return {**kept, "answers": texts, "answer": shown}


def _normal(spans: Sequence[str], scale: str) -> list[str]:
    """Return the words of spans in their order, the spans sorted; quantities as plain numbers."""
    return [word for span in sorted(spans) for word in _span(span, scale)]


def _span(span: str, scale: str) -> list[str]:
    quantity = _QUANTITY.fullmatch(span.strip().lower())
    if quantity is not None:
        return [f"{_value(quantity, scale):.4f}"]
    words = (_word(word) for word in f"{span} {scale}".lower().split())
    return [word for word in words if word and word not in {"a", "an", "the"}]


def _value(quantity: re.Match[str], scale: str) -> float:
    """Return a quantity in ones; its own scale has precedence over the question's."""
    own = _own_scale(quantity)
    if own == "percent":
        return round(_plain(quantity) * SCALES["percent"], 4)
    return round(_plain(quantity), 2) * SCALES[own or scale]


def _own_scale(quantity: re.Match[str]) -> str:
    return "percent" if quantity["percent"] else (quantity["scale"] or "").removesuffix("s")


def _plain(quantity: re.Match[str]) -> float:
    value = float(quantity["digits"].replace(",", ""))
    negative = quantity["minus"] or quantity["inner"] or (quantity["open"] and quantity["close"])
    return -value if negative else value


def _unrounded(written: Sequence[str]) -> list[list[str]]:
    """Return a single number without a scale with all its decimals: 0.2342 for 23.42 percent."""
    quantity = _QUANTITY.fullmatch(written[0].strip().lower()) if len(written) == 1 else None
    return [] if quantity is None or _own_scale(quantity) else [[f"{_plain(quantity):.4f}"]]


def _word(word: str) -> str:
    """Return a word of a text; a number as its value, so that $5,000 is 5000."""
    quantity = _QUANTITY.fullmatch(word.rstrip(".,;:"))
    return f"{_value(quantity, ''):.4f}" if quantity else word.translate(_NO_PUNCTUATION)


def _set_f1(found: set[str], wanted: set[str]) -> float:
    """Compute the F1 of sets of words, to two decimals as the script rounds it."""
    both = len(found & wanted)
    return round(2 * both / (len(found) + len(wanted)), 2) if both else 0.0
