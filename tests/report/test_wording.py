"""How figures are written."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import pytest

from cpt.report import wording


@pytest.mark.parametrize(
    ("words", "value", "text"),
    [
        (wording.number, 0.79, "0.790"),
        (wording.number, -0.0001, "0.000"),
        (wording.number, None, "–"),
        (wording.number, float("nan"), "–"),
        (wording.signed, 0.0123, "+0.012"),
        (wording.signed, -0.0123, "−0.012"),
        (wording.signed, 0.0001, "0.000"),
        (wording.count, 122880, "122,880"),
        (wording.compact, 999, "999"),
        (wording.compact, 999_960, "1M"),
        (wording.compact, 30_720, "30.7k"),
        (wording.compact, 122_880, "123k"),
        (wording.compact, 2_500_000_000, "2.5B"),
        (wording.percent, 0.4125, "41.2%"),
        (wording.points, -0.01, "−1.0"),
        (wording.duration, 4.23, "4.2 s"),
        (wording.duration, 59.7, "1 min"),
        (wording.duration, 372, "6 min 12 s"),
        (wording.duration, 3600, "1 h"),
        (wording.duration, 90_061, "1 d 1 h"),
        (wording.rate, 3e-4, "3e−4"),
        (wording.rate, 1.65e-4, "1.65e−4"),
        (wording.rate, 0.0, "0"),
    ],
)
def test_figures(words, value, text) -> None:
    assert words(value) == text


def test_budgets_are_typeset() -> None:
    assert wording.typeset("general <= +0.02") == "general ≤ +0.02"
    assert wording.typeset("piqa >= -1 point") == "piqa ≥ -1 point"
    assert wording.typeset("general recovers within 20%") == "general recovers within 20%"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (wording.margin(0.01), "± 0.020"),
        (wording.margin(0.008, 1, 100), "± 1.6"),
        (wording.margin(None), ""),
        (wording.margin(float("nan")), ""),
    ],
)
def test_margins_are_95_percent_intervals(found: str, text: str) -> None:
    assert found == text
