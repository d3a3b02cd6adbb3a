"""Numbers as financial texts write them: $1,577.00, (12.6), -0.5 %."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

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
    """A number and the decimals it was written with (None without a point)."""

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
            told = [each for each in found if each.decimals is not None or abs(each.value) not in years]
            if told:
                return told[-1]
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
    """Whether two numbers are the same once both are rounded to the fewer decimals of the two.

    A share and its percentage are the same: 0.654 is 65.4. So does Program of Thoughts (Chen et al. 2022,
    arXiv:2211.12588) compare what a model wrote with FinQA's answers; here the rounding may also not change
    the value by more than 1 %, so that 0.1 is not 0.141.
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
