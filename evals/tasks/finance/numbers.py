"""Numbers as financial texts write them: $1,577.00, (12.6), -0.5 %."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<before>(?<![\w%)])[-\u2212])?(?P<open>\()?[$€£¥]?(?P<after>[-\u2212]|\()?(?<![\w.,])(?P<digits>{DIGITS})"
)
_EXACT = 5
"""Decimals to which a number without a point is compared."""
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Number:
    """A number and the decimals it was written with (None without a point)."""

    value: float
    decimals: int | None


def first_number(text: str) -> Number | None:
    """The first number of a text that is not part of a word (FY2018).

    Brackets around it or a dash right before it make it negative; a percent sign changes nothing.
    """
    match = _NUMBER.search(text)
    if match is None:
        return None
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
