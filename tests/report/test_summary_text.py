"""What a run's figures amount to, in words."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import math

import pytest

from cpt.report import summary_text
from cpt.report.schema import (
    CurvePoint,
    EarlyEnd,
    Gate,
    Interval,
    MonitorCost,
    Probe,
    ProbeCost,
    ProbeTraining,
    TaskCurve,
)


def probe(before: float, value: float, low: float | None = None, high: float | None = None) -> Probe:
    return Probe(before=before, after=before + value, difference=Interval(value=value, low=low, high=high))


def test_a_model_that_has_diverged_is_not_said_to_be_worse_by_nan() -> None:
    said = summary_text.verdict({"general": probe(1.0, math.nan)})
    assert said == "General text is no longer predicted at all: the model has diverged."


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
            "Domain text unchanged (+0.004); no finding on general text: its change has no interval.",
        ),
        (
            probe(1.1, -0.0001, -0.0002, -0.00005),
            probe(0.991, 0.0, 0.0, 0.0),
            "Domain text unchanged (0.000); general text unchanged (0.000).",
        ),
    ],
)
def test_verdict_counts_only_changes_that_are_not_noise(domain, general, sentence) -> None:
    assert summary_text.verdict({"domain": domain, "general": general}) == sentence


def test_verdict_of_one_probe_and_of_none() -> None:
    assert summary_text.verdict({"general": probe(1.0, 0.1, 0.05, 0.2)}) == "General text 10% worse (+0.100)."
    assert summary_text.verdict({"domain": Probe()}) == "Nothing was measured on held-out text."
    assert summary_text.verdict({}) == "Nothing was measured on held-out text."


@pytest.mark.parametrize(
    ("difference", "lower_is_better", "found"),
    [
        (Interval(value=-1, low=-2, high=-0.5), True, "better"),
        (Interval(value=-1, low=-2, high=-0.5), False, "worse"),
        (Interval(value=-1, low=-2, high=0.0), True, "no change"),
        (Interval(value=-1), True, ""),
        (Interval(value=math.nan, low=math.nan, high=math.nan), False, "worse"),
    ],
)
def test_judgement(difference, lower_is_better, found) -> None:
    assert summary_text.judgement(difference, lower_is_better=lower_is_better) == found


def test_gap_finding_tells_recovery_from_forgetting() -> None:
    curve = [CurvePoint(step=0, tokens=0, value=1.0), CurvePoint(step=9, tokens=900, value=1)]
    recovered = Probe(depth=0.034, trough_step=6, recovery_step=40, area=9.0, curve=curve)
    assert summary_text.gap_finding("general", recovered) == (
        "General text first got worse: by 0.034 bits per byte at its worst, at step 6, and by 0.010 on "
        "average over the training. It was back at the base level by step 40."
    )
    training = ProbeTraining(before=1.0, end=1.02, permanent=0.02)
    forgotten = Probe(depth=0.034, trough_step=6, training=training)
    assert summary_text.gap_finding("general", forgotten).endswith(
        "It was not back at the base level when training ended (+0.020)."
    )
    assert "no gap" in summary_text.gap_finding("domain", Probe(depth=0.0001, trough_step=1))
    assert "not followed" in summary_text.gap_finding("domain", Probe())


def test_two_readings_show_no_gap_and_deny_none() -> None:
    curve = [CurvePoint(step=0, tokens=0, value=1.0), CurvePoint(step=9, tokens=900, value=0.9)]
    ends = Probe(depth=0.0, gap=False, curve=curve)
    assert summary_text.gap_finding("general", ends) == (
        "General text was read only before and after training: whether there is a gap is not known."
    )
    assert summary_text.task_finding("piqa", TaskCurve(depth=0.0, gap=False, curve=curve)) == (
        "piqa was read only before and after training: whether it fell between is not known."
    )
    more = ends.model_copy(update={"curve": [curve[0], CurvePoint(step=4, tokens=400, value=1), curve[1]]})
    assert "never got worse" in summary_text.gap_finding("general", more)


def test_a_rise_inside_the_noise_is_no_gap() -> None:
    noisy = Probe(depth=0.004, trough_step=3, gap=False)
    assert not summary_text.has_gap(noisy)
    assert summary_text.gap_finding("general", noisy) == (
        "General text rose by 0.004 at most, within the noise of all its readings together: no gap is proven."
    )
    assert summary_text.has_gap(noisy.model_copy(update={"gap": None}))


def test_what_is_left_inside_the_noise_is_not_forgetting() -> None:
    left = ProbeTraining(before=1.0, end=1.001, permanent=0.001)
    probe = Probe(depth=0.03, trough_step=6, gap=True, forgotten=False, training=left)
    assert summary_text.gap_finding("general", probe).endswith(
        "The change left at the end of training is within the noise (+0.001)."
    )


def test_tasks_fall_and_come_back_in_points() -> None:
    task = TaskCurve(depth=0.034, trough_step=30, recovery_step=90, gap=True, permanent=-0.004)
    assert summary_text.task_finding("piqa", task) == (
        "piqa fell by 3.4 points at its worst, at step 30. It was back at the base level by step 90."
    )
    lost = task.model_copy(update={"recovery_step": None, "forgotten": True})
    assert summary_text.task_finding("piqa", lost).endswith("when training ended (−0.4 points).")
    assert summary_text.task_finding("piqa", TaskCurve(depth=0.01, gap=False)) == (
        "piqa never fell by more than the noise of all its readings together."
    )


def gate(verdict: str, limit: str = "general <= +0.02") -> Gate:
    return Gate(limit=limit, probe="general", action="warn", verdict=verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ([], ""),
        (["held"], "the limit held"),
        (["held"] * 2, "both limits held"),
        (["held"] * 3, "all 3 limits held"),
        (["held", "at risk", "not measured"], "1 of 3 limits held, 1 at risk, 1 not measured"),
        (["held", "broken", "at risk"], "1 of 3 limits broken: general ≤ +0.02"),
        (["held", "not shown", "not shown"], "1 of 3 limits held, 2 not shown"),
        (["broken", "not shown"], "1 of 2 limits broken: general ≤ +0.02"),
        (["broken"], "1 of 1 limit broken: general ≤ +0.02"),
        (["not shown"], "the limit is not shown to be held"),
    ],
)
def test_limits_in_a_clause(verdicts: list[str], text: str) -> None:
    assert summary_text.limits([gate(verdict) for verdict in verdicts]) == text


def test_the_verdict_names_what_else_got_worse_and_how_the_limits_fared() -> None:
    probes = {
        "domain": probe(1.1, -0.297, -0.31, -0.28),
        "general": probe(0.991, -0.001, -0.003, 0.001),
        "instruction": probe(1.2, 0.024, 0.02, 0.03),
        "french": probe(1.5, 0.002, -0.01, 0.014),
    }
    assert summary_text.verdict(probes, [gate("held")]) == (
        "27% fewer bits per byte on domain text; general text unchanged (−0.001); "
        "instruction text 2.0% worse (+0.024); the limit held."
    )


def test_the_basis_says_where_the_interval_comes_from() -> None:
    paired = summary_text.basis({"general": probe(1.0, 0.1, 0.05, 0.2)}, 0.95, merged=True)
    assert "on the same documents excludes zero. The merged model itself was not measured." in paired
    assert "no confidence interval" in summary_text.basis({"general": probe(1.0, 0.1)}, 0.95, merged=False)


def test_an_early_end_says_why_and_which_model_is_the_result() -> None:
    ended = EarlyEnd(step=1200, result_step=900, action="stop", why="general rose by 0.03")
    assert summary_text.ended_finding(ended) == (
        "Training was ended early, at step 1,200: general rose by 0.03. The result is the model of step 900. "
        "Curves of probes end with it."
    )
    last = ended.model_copy(update={"result_step": 1200, "why": ""})
    assert summary_text.ended_finding(last) == (
        "Training was ended early, at step 1,200. The result is its last model."
    )
    at_the_end = ended.model_copy(update={"early": False})
    assert summary_text.ended_finding(at_the_end).startswith("Training ended at step 1,200: general rose")


def test_a_text_that_only_training_measured_is_named() -> None:
    general = probe(1.0, 0.1, 0.05, 0.2).model_copy(update={"measured_by": "evaluate"})
    probes = {"general": general, "history": probe(1.0, -0.1, -0.2, -0.05)}
    assert summary_text.basis(probes, 0.95, merged=True).endswith(
        "excludes zero. Text of history was measured only in training, before the merge."
    )
    assert summary_text.basis({"general": general}, 0.95, merged=True).endswith("excludes zero.")


@pytest.mark.parametrize(
    ("work", "share", "allowed", "readings", "text"),
    [
        (
            0.048,
            0.2,
            0.05,
            9,
            "Probes did 4.8% of the training's work, within their share of 5.0%, and took 20.0% of the "
            "training's time. 9 of 9 readings were made.",
        ),
        (
            0.06,
            0.04,
            0.05,
            4,
            "Probes did 6.0% of the training's work, over their share of 5.0%, and took 4.0% of the "
            "training's time. 4 of 9 readings were made. First and last readings, those that gates require, "
            "and samples are never skipped.",
        ),
        (
            0.06,
            0.04,
            None,
            9,
            "Probes did 6.0% of the training's work and took 4.0% of the training's time. 9 of 9 readings "
            "were made.",
        ),
        (None, 0.06, 0.05, 9, "Probes took 6.0% of the training's time."),
        (0.05, None, 0.05, 9, ""),
    ],
)
def test_what_watching_cost(
    work: float | None, share: float | None, allowed: float | None, readings: int, text: str
) -> None:
    probes = {
        "general": ProbeCost(seconds=1.0, readings=readings, wanted=9),
        "domain": ProbeCost(seconds=1.0),
    }
    assert (
        summary_text.monitor_finding(MonitorCost(work=work, share=share, probe_share=allowed, probes=probes))
        == text
    )
