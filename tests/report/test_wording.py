"""How figures and findings are written."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import pytest

from cpt.report import wording
from cpt.report.schema import CurvePoint, Interval, Probe, ProbeTraining


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


def probe(before: float, value: float, low: float | None = None, high: float | None = None) -> Probe:
    return Probe(before=before, after=before + value, difference=Interval(value=value, low=low, high=high))


@pytest.mark.parametrize(
    ("domain", "general", "sentence"),
    [
        (
            probe(1.1, -0.297, -0.31, -0.28),
            probe(0.991, -0.001, -0.003, 0.001),
            "27% fewer bits per byte on domain text; general text unchanged (−0.001).",
        ),
        (
            probe(1.1, -0.055, -0.06, -0.05),
            probe(0.991, 0.0099, 0.005, 0.015),
            "5.0% fewer bits per byte on domain text; general text 1.0% worse (+0.010).",
        ),
        (
            probe(1.1, 0.11, 0.1, 0.12),
            probe(0.991, -0.0099, -0.02, -0.001),
            "10% more bits per byte on domain text; general text 1.0% better (−0.010).",
        ),
        (
            probe(1.1, 0.004, -0.01, 0.018),
            probe(0.991, 0.02),
            "Domain text unchanged (+0.004); general text 2.0% worse (+0.020).",
        ),
        (
            probe(1.1, -0.0001, -0.0002, -0.00005),
            probe(0.991, 0.0, 0.0, 0.0),
            "Domain text unchanged (0.000); general text unchanged (0.000).",
        ),
    ],
)
def test_verdict_counts_only_changes_that_are_not_noise(domain, general, sentence) -> None:
    assert wording.verdict({"domain": domain, "general": general}) == sentence


def test_verdict_of_one_probe_and_of_none() -> None:
    assert wording.verdict({"general": probe(1.0, 0.1, 0.05, 0.2)}) == "General text 10% worse (+0.100)."
    assert wording.verdict({"domain": Probe()}) == "Nothing was measured on held-out text."
    assert wording.verdict({}) == "Nothing was measured on held-out text."


@pytest.mark.parametrize(
    ("difference", "lower_is_better", "found"),
    [
        (Interval(value=-1, low=-2, high=-0.5), True, "better"),
        (Interval(value=-1, low=-2, high=-0.5), False, "worse"),
        (Interval(value=-1, low=-2, high=0.0), True, "no change"),
        (Interval(value=-1), True, ""),
    ],
)
def test_judgement(difference, lower_is_better, found) -> None:
    assert wording.judgement(difference, lower_is_better=lower_is_better) == found


def test_gap_finding_tells_recovery_from_forgetting() -> None:
    curve = [CurvePoint(step=0, tokens=0, value=1.0), CurvePoint(step=9, tokens=900, value=1)]
    recovered = Probe(depth=0.034, trough_step=6, recovery_step=40, area=9.0, curve=curve)
    assert wording.gap_finding("general", recovered) == (
        "General text first got worse: by 0.034 bits per byte at its worst, at step 6, and by 0.010 on "
        "average over the training. It was back at the base level by step 40."
    )
    training = ProbeTraining(before=1.0, end=1.02, permanent=0.02)
    forgotten = Probe(depth=0.034, trough_step=6, training=training)
    assert wording.gap_finding("general", forgotten).endswith(
        "It was not back at the base level when training ended (+0.020)."
    )
    assert "no gap" in wording.gap_finding("domain", Probe(depth=0.0001, trough_step=1))
    assert "not followed" in wording.gap_finding("domain", Probe())
