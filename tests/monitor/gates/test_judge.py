"""Verdicts: what is held, at risk or broken, and that noise alone is neither of the last two."""

import math
import random

import numpy as np
import pytest
from pydantic import TypeAdapter

from cpt.monitor.gates import Gate, Judgement, judge, verdict
from cpt.monitor.gates.trend import forecast
from cpt.monitor.reading import Items, Kind, Reading, Unit

GATE = TypeAdapter(Gate)


def gate(budget: str, action: str = "warn", **options: object) -> Gate:
    return GATE.validate_python({"budget": budget, "action": action, **options})


def text(*rises: float, error: float = 0.001, probe: str = "general", every: int = 1) -> list[Reading]:
    return [
        Reading(
            n * every, n * every * 100, probe, "text", "bits per byte", 1 + r, 0.05, r, error if n else 0.0
        )
        for n, r in enumerate(rises)
    ]


def task(*changes: float, error: float = 0.001) -> list[Reading]:
    kind: Kind = "task"
    unit: Unit = "accuracy"
    return [
        Reading(n, n * 100, "piqa", kind, unit, 0.5 + c, 0.05, c, error if n else 0.0)
        for n, c in enumerate(changes)
    ]


def one(budget: str, readings: list[Reading], progress: float = 0.5, **options: float) -> Judgement:
    return judge([gate(budget)], readings, progress, **options)[0]


@pytest.mark.parametrize(
    ("rise", "expected"),
    [
        (-0.1, "held"),
        (0.0, "held"),
        (0.017, "held"),
        (0.0185, "at risk"),
        (0.023, "at risk"),
        (0.0245, "broken"),
    ],
)
def test_the_verdict_on_a_limit(rise: float, expected: str) -> None:
    found = one("general <= +0.02", text(0.0, rise))  # 1.64 errors below, about 4 above the limit
    assert found.verdict == expected
    assert (found.value, found.error, found.limit, found.unit) == (rise, 0.001, 0.02, "bits per byte")


def test_a_fall_of_accuracy_is_judged_in_points_and_with_its_sign() -> None:
    assert one("piqa >= -1 point", task(0.0, -0.005)).verdict == "held"
    broken = one("piqa >= -1 point", task(0.0, -0.02))
    assert (broken.verdict, broken.value, broken.limit) == ("broken", -0.02, -0.01)
    assert broken.why == "piqa fell by 2 ± 0.2 points of 1 point allowed"
    assert one("piqa >= -1 point", task(0.0, 0.2)).verdict == "held"


def test_one_look_at_the_end_needs_a_smaller_excess_than_many_on_the_way() -> None:
    readings = text(0.0, 0.0235)
    assert one("general <= +0.02", readings, 0.5).verdict == "at risk"
    assert one("general <= +0.02", readings, 1.0).verdict == "broken"


def test_a_probe_too_noisy_for_its_budget_says_so() -> None:
    found = one("general <= +0.02", text(0.0, 0.03, error=0.02))
    assert found.verdict == "held"
    assert found.why == "general rose by 0.03 ± 0.04 of 0.02 allowed; its noise exceeds that"


def test_a_broken_budget_is_not_held_again_because_a_later_reading_is_noisier() -> None:
    noisy = text(0.0, 0.0, 0.03, error=0.01)[-1]
    found = one("general <= +0.02", [*text(0.0, 0.05), noisy])
    assert found.verdict == "at risk"
    assert found.why == "general rose by 0.03 ± 0.02 of 0.02 allowed, and was broken before"
    assert one("general <= +0.02", [*text(0.0, 0.05), noisy], since=1).verdict == "held"  # went back at 1


def test_a_broken_budget_is_held_again_once_a_reading_was_within_it() -> None:
    noisy = text(0.0, 0.0, 0.0, 0.03, error=0.01)[-1]
    assert one("general <= +0.02", [*text(0.0, 0.05, 0.01), noisy]).verdict == "held"


def test_what_was_proven_stays_so_however_many_readings_follow() -> None:
    proven = text(0.0, 0.0245)
    assert one("general <= +0.02", proven).verdict == "broken"
    after = [text(*[0.0] * step, 0.023, error=0.02)[-1] for step in range(2, 300)]
    assert one("general <= +0.02", [*proven, *after]).verdict == "at risk"


def test_a_probe_that_is_better_is_told_in_its_own_direction() -> None:
    better = one("general <= +0.05", text(0.0, -0.882, error=0.0425))
    assert better.why == "general fell by 0.882 ± 0.085, where a rise of 0.05 is allowed"
    assert one("general <= +0", text(0.0, -0.2)).why.endswith(", where no rise is allowed")
    gained = one("piqa >= -1 point", task(0.0, 0.03))
    assert gained.why == "piqa rose by 3 ± 0.2 points, where a fall of 1 point is allowed"
    unsure = one("general <= +0.02", text(0.0, -0.01, error=0.02))
    assert unsure.why.endswith("where a rise of 0.02 is allowed; its noise exceeds that")


def test_what_is_not_measured_has_no_value() -> None:
    found = one("drift <= 0.1", text(0.0, 0.0))
    assert (found.verdict, found.value, found.error) == ("not measured", None, None)
    assert found.as_json()["verdict"] == "not measured"


@pytest.mark.parametrize("budget", ["general <= 0.02", "general recovers within 90%"])
@pytest.mark.parametrize("progress", [0.5, 1.0])
def test_a_model_that_has_diverged_holds_no_budget(budget: str, progress: float) -> None:
    judgement = one(budget, text(0.0, 0.001, math.nan, error=math.nan), progress)
    assert (judgement.verdict, judgement.value, judgement.slack) == ("broken", None, False)
    assert judgement.why == "general is not a finite number"
    assert judgement.ends_at > 1


def test_unknown_errors_take_the_rise_as_it_is() -> None:
    found = one("general <= +0.02", text(0.0, 0.021, error=math.nan))
    assert (found.verdict, found.error) == ("broken", None)


def test_a_rise_that_will_break_its_budget_is_at_risk_before_it_does() -> None:
    rising = text(0.0, 0.004, 0.008, 0.012, error=0.0003)
    ahead = one("general <= +0.02", rising, 0.25)
    assert ahead.verdict == "at risk"
    assert "by its trend ends at" in ahead.why
    assert ahead.ends_at > 1
    assert one("general <= +0.05", rising, 0.25).verdict == "held"
    assert one("general <= +0.02", rising, 0.25, since=3).verdict == "held"  # the trend begins anew
    assert one("general <= +0.02", rising, 1.0).verdict == "held"  # nothing is ahead


def test_slack_is_clear_now_and_by_the_trend() -> None:
    assert one("general <= +0.02", text(0.0, 0.005)).slack
    assert not one("general <= +0.02", text(0.0, 0.009)).slack  # 1.64 errors below half of the limit
    assert not one("general <= +0.02", text(0.0, 0.001, 0.003, 0.005), 0.3).slack
    assert one("general <= +0.02", text(0.0, 0.01, 0.006, 0.004), 0.3).slack


@pytest.mark.parametrize(
    ("rises", "progress", "expected", "value"),
    [
        ((0.0, 0.0005, 0.001), 0.3, "held", 0.0),  # nothing rose by more than noise
        ((0.0, 0.05), 0.05, "held", 0.05),
        ((0.0, 0.05), 0.15, "at risk", 0.15),
        ((0.0, 0.05), 0.25, "broken", 0.25),
        ((0.0, 0.05, 0.02, 0.0005), 0.1875, "held", 0.1875),
        ((0.0, 0.05, 0.02, 0.0005, 0.0), 0.25, "held", 0.1875),
        ((0.0, 0.05, 0.02, 0.02, 0.0005), 0.5, "broken", 0.5),
    ],
)
def test_the_verdict_on_a_recovery(
    rises: tuple[float, ...], progress: float, expected: str, value: float
) -> None:
    found = one("general recovers within 20%", text(*rises), progress)
    assert (found.verdict, found.unit) == (expected, "share of tokens")
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("rises", "progress", "expected"),
    [
        ((0.0, 0.0), 1.0, "not measured"),  # read at the start and at the end
        ((0.0, 0.05), 1.0, "broken"),  # still up long after
        ((0.0, 0.0, 0.0, 0.0), 1.0, "not measured"),  # first read after a third
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1.0, "held"),  # read after exactly a fifth
        ((0.0,), 0.0, "held"),  # the point is still to come
    ],
)
def test_a_recovery_that_was_not_looked_at_in_time_is_not_measured(
    rises: tuple[float, ...], progress: float, expected: str
) -> None:
    found = one("general recovers within 20%", text(*rises), progress)
    assert found.verdict == expected
    if expected == "not measured":
        assert (found.value, found.slack) == (None, False)
        assert found.why == "general was not read between the start and 20% of the tokens"


def test_the_sentence_names_the_worst() -> None:
    gates = [gate("general <= +0.02"), gate("domain <= +0.5"), gate("drift <= 1")]
    readings = [*text(0.0, 0.03), *text(0.0, -0.2, probe="domain")]
    assert verdict(judge(gates, readings, 0.5)) == (
        "general <= +0.02 is broken: general rose by 0.03 ± 0.002 of 0.02 allowed"
    )
    assert verdict(judge(gates[1:], readings, 0.5)) == "drift <= 1 is not measured yet"
    assert verdict(judge(gates[1:2], readings, 0.5)) == (
        "domain fell by 0.2 ± 0.002, where a rise of 0.5 is allowed"
    )
    assert verdict(judge(gates[1:2] * 2, readings, 0.5)) == "all 2 budgets hold"
    assert verdict([]) == ""


def test_only_gates_that_act_fail_a_run() -> None:
    readings = text(0.0, 0.5)
    judged = judge([gate("general <= 0.1"), gate("general <= 0.1", "fail")], readings, 1.0)
    assert [judgement.fails for judgement in judged] == [False, True]


def test_noise_alone_puts_no_budget_at_risk() -> None:
    chance, alarms = random.Random(5), 0
    names = ("general", "instruction", "french", "code")
    gates = [gate(f"{name} <= +{limit}") for name, limit in zip(names, (0.02, 0.01, 0.005, 0.0), strict=True)]
    gates.append(gate("general recovers within 20%"))
    curves: list[list[Reading]] = []
    for _ in range(1000):
        curves = [
            text(0.0, *(chance.gauss(0, 0.004) for _ in range(29)), error=0.004, probe=name) for name in names
        ]
        alarms += any(
            judgement.verdict != "held"
            for upto in (2, 5, 10, 20, 30)
            for judgement in judge(gates, [r for c in curves for r in c[:upto]], upto / 30)
        )
    assert alarms < 10


def test_noise_alone_seldom_raises_a_suspicion_and_a_steep_rise_does_before_it_is_proven() -> None:
    chance, suspicions = random.Random(5), 0
    for _ in range(1000):
        curve = text(0.0, *(chance.gauss(0, 0.004) for _ in range(29)), error=0.004)
        suspicions += any(one("general <= +0.005", curve[:upto], upto / 30).suspect for upto in range(2, 30))
    assert suspicions < 15
    rising = one("general <= +0.01", text(0.0, 0.0145, error=0.004), 0.1)
    assert (rising.verdict, rising.suspect) == ("held", True)


def shrunk(generator: np.random.Generator, documents: int, rise: float = 0.0) -> list[Reading]:
    """A text of documents that nothing but noise moves, and a time budget that reads a few of them."""
    sizes = generator.uniform(500, 3000, documents)
    start = Items(generator.normal(1, 0.2, documents) * sizes, sizes)
    found = []
    for step, count in enumerate((documents, *generator.integers(2, documents // 2, 10), documents)):
        moved = rise + generator.normal(0, 0.08, count) if step else np.zeros(count)
        items = Items(start.numerators[:count] + moved * sizes[:count], sizes[:count])
        share = count / documents
        numbers = (items.value, items.standard_error, *items.rise_over(start), share)
        found.append(Reading(step, step * 100, "general", "text", "bits per byte", *numbers, items=count))
    return found


def test_a_sample_that_the_time_budget_shrinks_gives_no_false_alarm() -> None:
    generator = np.random.default_rng(3)
    alarms, errors = 0, []
    for _ in range(200):
        readings = shrunk(generator, documents=12)
        errors += [(reading.items, reading.rise_error) for reading in readings[1:]]
        seen = (judge([gate("general <= +0.02")], readings[:n], n / 12)[0].verdict for n in (4, 8, 12))
        alarms += any(found != "held" for found in seen)
    assert alarms < 4
    few, many = (np.mean([e for n, e in errors if n in counts]) for counts in ((4, 5), (12,)))
    assert few > 1.3 * many  # the paired error says what was lost
    planted = shrunk(generator, documents=200, rise=0.06)
    assert judge([gate("general <= +0.02")], planted, 1.0)[0].verdict == "broken"


def test_a_planted_rise_is_found_at_the_end() -> None:
    chance = random.Random(9)
    found = [
        one(
            "general <= +0.001",
            text(0.0, *(0.02 + chance.gauss(0, 0.003) for _ in range(29)), error=0.003),
            1.0,
        )
        for _ in range(200)
    ]
    assert sum(judgement.verdict == "broken" for judgement in found) > 190


def test_the_forecast_is_exact_on_a_line() -> None:
    progress = [0.5, 0.6, 0.8]
    worse = [0.1 + 0.02 * p for p in progress]
    ahead = forecast(progress, worse, [0.0] * 3)
    assert ahead.worse == pytest.approx(0.12)
    assert ahead.error == 0
    near = forecast([p / 10 for p in progress], worse, [0.0] * 3)
    assert near.worse == pytest.approx(0.1 + 0.02 * 2 * 0.8)  # no further than the run is old


def test_the_forecasts_error_is_that_of_a_line() -> None:
    chance, progress = random.Random(1), [0.2, 0.25, 0.3, 0.35]
    ends = [forecast(progress, [chance.gauss(0, 1) for _ in progress], [1.0] * 4) for _ in range(4000)]
    spread = math.sqrt(sum(end.worse**2 for end in ends) / len(ends))
    assert spread == pytest.approx(ends[0].error, rel=0.05)


def test_two_readings_have_no_trend() -> None:
    assert math.isnan(forecast([0.0, 0.1, 0.2], [0.0, 1.0, 2.0], [0.0] * 3).worse)
