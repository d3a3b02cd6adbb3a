"""Formats of figures, on report pages and on the command line."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import pytest

from cpt import formatting


@pytest.mark.parametrize(
    ("words", "value", "text"),
    [
        (formatting.fixed, 0.79, "0.790"),
        (formatting.fixed, -0.0001, "0.000"),
        (formatting.fixed, None, "–"),
        (formatting.fixed, float("nan"), "–"),
        (formatting.signed, 0.0123, "+0.012"),
        (formatting.signed, -0.0123, "−0.012"),
        (formatting.signed, 0.0001, "0.000"),
        (formatting.count, 122880, "122,880"),
        (formatting.compact, 999, "999"),
        (formatting.compact, 999_960, "1M"),
        (formatting.compact, 30_720, "30.7k"),
        (formatting.compact, 122_880, "123k"),
        (formatting.compact, 2_500_000_000, "2.5B"),
        (formatting.percent, 0.4125, "41.2%"),
        (formatting.points, -0.01, "−1.0"),
        (formatting.duration_in_words, 4.23, "4.2 s"),
        (formatting.duration_in_words, 59.7, "1 min"),
        (formatting.duration_in_words, 372, "6 min 12 s"),
        (formatting.duration_in_words, 3600, "1 h"),
        (formatting.duration_in_words, 90_061, "1 d 1 h"),
        (formatting.rate, 3e-4, "3e−4"),
        (formatting.rate, 1.65e-4, "1.65e−4"),
        (formatting.rate, 0.0, "0"),
    ],
)
def test_figures(words, value, text) -> None:
    assert words(value) == text


def test_limits_are_typeset() -> None:
    assert formatting.typeset("general <= +0.02") == "general ≤ +0.02"
    assert formatting.typeset("piqa >= -1 point") == "piqa ≥ -1 point"
    assert formatting.typeset("general recovers within 20%") == "general recovers within 20%"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (formatting.margin(0.01), "± 0.020"),
        (formatting.margin(0.008, 1, 100), "± 1.6"),
        (formatting.margin(None), ""),
        (formatting.margin(float("nan")), ""),
    ],
)
def test_margins_are_95_percent_intervals(found: str, text: str) -> None:
    assert found == text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formatting.duration(0.42), "0.4 s"),
        (formatting.duration(41.2), "41 s"),
        (formatting.duration(125), "2:05"),
        (formatting.duration(3725), "1:02:05"),
        (formatting.size(512), "512 B"),
        (formatting.size(1400), "1.4 kB"),
        (formatting.size(538_000_000), "538 MB"),
        (formatting.number(98304), "98,304"),
        (formatting.number(612.4), "612"),
        (formatting.number(2.31), "2.310"),
        (formatting.number(2.3e-4), "2.3e-04"),
        (formatting.number(0.0), "0.000"),
        (formatting.fact("tokens_per_second", 4100.0), "4,100 tokens/s"),
        (formatting.fact("grad_norm", 1.5), "grad norm 1.500"),
        (formatting.plural(1, "stage"), "1 stage"),
        (formatting.plural(2, "stage"), "2 stages"),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected
