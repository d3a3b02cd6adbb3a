"""Verdicts: what is held, not shown, at risk or broken, and how often noise makes a false one."""

import math
import random

import numpy as np
import pytest
from pydantic import TypeAdapter

from cpt.monitor.gates import Gate, Judgement, judge, verdict
from cpt.monitor.reading import Items, Kind, Reading, Unit

GATE = TypeAdapter(Gate)


def gate(limit: str, action: str = "warn", **options: object) -> Gate:
    return GATE.validate_python({"limit": limit, "action": action, **options})


def text(
    *rises: float, error: float = 0.001, probe: str = "general", every: int = 1, items: int | None = None
) -> list[Reading]:
    unit: Unit = "bits per byte"
    return [
        Reading(
            n * every, n * every * 100, probe, "text", unit, 1 + r, 0.05, r, error if n else 0.0, items=items
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


def one(limit: str, readings: list[Reading], progress: float = 0.5, **options: float) -> Judgement:
    return judge([gate(limit)], readings, progress, **options)[0]


def test_ends_in_mid_sentence_are_read_on_documents() -> None:
    readings = [
        Reading(n, n * 100, "early-end", "early-end", "probability", 0.1 + r, 0.01, r, 0.01 * n, items=9)
        for n, r in enumerate((0.0, 0.02))
    ]
    found = one("early-end <= 0.02", readings, progress=1)
    assert found.verdict == "not shown"
    assert found.why.endswith("is possible, on 9 documents")


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
    assert (found.value, found.error, found.allowed, found.unit) == (rise, 0.001, 0.02, "bits per byte")


def test_a_fall_of_accuracy_is_judged_in_points_and_with_its_sign() -> None:
    assert one("piqa >= -1 point", task(0.0, -0.005)).verdict == "held"
    broken = one("piqa >= -1 point", task(0.0, -0.02))
    assert (broken.verdict, broken.value, broken.allowed) == ("broken", -0.02, -0.01)
    assert broken.why == "piqa fell by 2 ± 0.2 points of 1 point allowed"
    assert one("piqa >= -1 point", task(0.0, 0.2)).verdict == "held"


def test_one_look_at_the_end_needs_a_smaller_excess_than_many_on_the_way() -> None:
    readings = text(0.0, 0.0235)
    assert one("general <= +0.02", readings, 0.5).verdict == "at risk"
    assert one("general <= +0.02", readings, 1.0).verdict == "broken"


@pytest.mark.parametrize("progress", [0.5, 1.0])
def test_a_probe_too_noisy_for_its_limit_says_so(progress: float) -> None:
    found = one("general <= +0.02", text(0.0, 0.03, error=0.02), progress)
    assert found.verdict == "not shown"
    assert found.why == "general rose by 0.03 ± 0.04 of 0.02 allowed; a rise of 0.0629 is possible"


@pytest.mark.parametrize(
    ("rise", "expected"),
    [
        (-0.01, "held"),
        (0.0, "held"),
        (0.0057, "held"),
        (0.0059, "not shown"),
        (0.034, "not shown"),
        (0.0343, "broken"),
    ],
)
def test_at_the_end_the_bounds_decide_by_students_t(rise: float, expected: str) -> None:
    """1.8946 standard errors of 0.0075 on each side of the limit, for eight documents."""
    found = one("general <= +0.02", text(0.0, rise, error=0.0075, items=8), 1.0)
    assert found.verdict == expected
    assert (found.items, found.needed) == (8, 111)
    if expected == "not shown":
        assert found.why.endswith("is possible, on 8 documents")


def test_a_limit_that_is_exactly_reached_for_sure_is_held() -> None:
    assert one("general <= +0.02", text(0.0, 0.02, error=0.0), 1.0).verdict == "held"
    assert one("general <= 0", text(0.0, 0.0, error=0.0), 1.0).verdict == "held"


def test_accuracies_are_held_not_shown_or_broken_in_points() -> None:
    verdicts = {
        change: one("piqa >= -1 point", task(0.0, change, error=0.01), 1.0).verdict
        for change in (0.007, 0.0, -0.02, -0.03)
    }
    assert list(verdicts.values()) == ["held", "not shown", "not shown", "broken"]
    unsure = one("piqa >= -1 point", task(0.0, 0.0, error=0.01), 1.0)
    assert unsure.why == "piqa rose by 0 ± 2 points of 1 point allowed; a fall of 1.64 points is possible"


def test_what_reads_all_there_is_has_no_noise() -> None:
    def moved(by: float) -> list[Reading]:
        numbers = (by, math.nan, by, math.nan)
        return [Reading(9, 900, "weights", "weights", "relative update", *numbers, items=1)]

    assert one("weights <= 0.1", moved(0.0999), 1.0).verdict == "held"
    assert one("weights <= 0.1", moved(0.1001), 1.0).verdict == "broken"


def test_a_broken_limit_is_not_held_again_because_a_later_reading_is_noisier() -> None:
    noisy = text(0.0, 0.0, 0.03, error=0.01)[-1]
    found = one("general <= +0.02", [*text(0.0, 0.05), noisy])
    assert found.verdict == "at risk"
    assert found.why == "general rose by 0.03 ± 0.02 of 0.02 allowed, and was broken before"
    assert one("general <= +0.02", [*text(0.0, 0.05), noisy], since=1).verdict == "not shown"  # went back


def test_a_broken_limit_is_at_risk_no_more_once_a_reading_was_within_it() -> None:
    noisy = text(0.0, 0.0, 0.0, 0.03, error=0.01)[-1]
    assert one("general <= +0.02", [*text(0.0, 0.05, 0.01), noisy]).verdict == "not shown"


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
    assert unsure.why.endswith("where a rise of 0.02 is allowed; a rise of 0.0229 is possible")


@pytest.mark.parametrize("limit", ["general <= +0.02", "general <= 0", "general recovers within 20%"])
def test_a_run_that_returns_its_start_holds_every_limit(limit: str) -> None:
    assert one(limit, text(0.0), 1.0).verdict == "held"


def test_what_is_not_measured_has_no_value_and_is_not_shown_at_the_end() -> None:
    found = one("drift <= 0.1", text(0.0, 0.0))
    assert one("drift <= 0.1", text(0.0, 0.0), 1.0).verdict == "not shown"
    assert (found.verdict, found.value, found.error) == ("not measured", None, None)
    assert found.as_json()["verdict"] == "not measured"


@pytest.mark.parametrize("limit", ["general <= 0.02", "general recovers within 90%"])
@pytest.mark.parametrize("progress", [0.5, 1.0])
def test_a_model_that_has_diverged_holds_no_limit(limit: str, progress: float) -> None:
    judgement = one(limit, text(0.0, 0.001, math.nan, error=math.nan), progress)
    assert (judgement.verdict, judgement.value, judgement.slack) == ("broken", None, False)
    assert judgement.why == "general is not a finite number"
    assert judgement.ends_at > 1


@pytest.mark.parametrize("progress", [0.5, 1.0])
@pytest.mark.parametrize("rise", [-1.0, 0.0, 0.021, 1.0])
@pytest.mark.parametrize("limit", ["general <= +0.02", "general recovers within 20%"])
def test_of_one_document_nothing_is_shown(limit: str, rise: float, progress: float) -> None:
    found = one(limit, text(*[0.0] * 9, rise, error=math.nan, items=1), progress)
    assert (found.verdict, found.error, found.slack, found.suspect) == ("not shown", None, False, False)
    assert found.why.endswith("its noise is not known, on one document")


def test_a_rise_that_will_break_its_limit_is_at_risk_before_it_does() -> None:
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
        ((0.0, 0.0005, 0.001), 0.3, "not shown", 0.0),  # nothing rose by more than noise
        ((0.0, -0.001, 0.001), 0.3, "held", 0.0),
        ((0.0, 0.05), 0.05, "not shown", 0.05),
        ((0.0, 0.05), 0.15, "at risk", 0.15),
        ((0.0, 0.05), 0.25, "broken", 0.25),
        ((0.0, 0.05, 0.02, 0.0005), 0.1875, "not shown", 0.1875),
        ((0.0, 0.05, 0.02, -0.0007), 0.1875, "held", 0.1875),
        ((0.0, 0.05, 0.02, -0.0007, 0.0), 0.25, "held", 0.1875),
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
        ((0.0, 0.0), 0.9, "not measured"),  # read at the start and late
        ((0.0, 0.0), 1.0, "unread"),
        ((0.0, 0.05), 1.0, "broken"),  # still up long after
        ((0.0, 0.0, 0.0, 0.0), 1.0, "unread"),  # first read after a third
        ((0.0, -0.001, 0.0, 0.0, 0.0, 0.0), 1.0, "held"),  # read after exactly a fifth
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1.0, "not shown"),  # may be up by as much as its noise
        ((0.0, -0.001, 0.0, 0.0, 0.0, 0.05), 1.0, "broken"),  # and rose again
        ((0.0, 0.05, 0.003, 0.0, 0.0, 0.0), 1.0, "broken"),  # shown up after exactly a fifth
        ((0.0,), 0.0, "not shown"),  # the point is still to come
    ],
)
def test_a_recovery_at_the_end_and_what_was_not_looked_at_in_time(
    rises: tuple[float, ...], progress: float, expected: str
) -> None:
    found = one("general recovers within 20%", text(*rises), progress)
    assert found.verdict == ("not shown" if expected == "unread" else expected)
    if expected in ("not measured", "unread"):
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
    assert verdict(judge(gates[1:2] * 2, readings, 0.5)) == "all 2 limits hold"
    noisy = text(0.0, 0.015, error=0.005)
    assert verdict(judge(gates[:1], noisy, 1.0)) == (
        "general <= +0.02 is not shown: general rose by 0.015 ± 0.01 of 0.02 allowed; a rise of 0.0232 is "
        "possible"
    )
    assert verdict([]) == ""


def test_judgements_name_the_recipes_keys() -> None:
    gates = [gate("general <= 0.1"), gate("general <= 0.1", "fail")]
    judged = judge(gates, text(0.0, 0.5), 1.0, stage="learn")
    assert [judgement.key for judgement in judged] == ["learn.gates.0", "learn.gates.1"]
    assert [judgement.as_json()["key"] for judgement in judge(gates, [], 1.0)] == ["gates.0", "gates.1"]


def test_noise_alone_puts_no_limit_at_risk() -> None:
    chance, alarms = random.Random(5), 0
    names = ("general", "instruction", "french", "code")
    gates = [gate(f"{name} <= +{limit}") for name, limit in zip(names, (0.02, 0.01, 0.005, 0.0), strict=True)]
    gates.append(gate("general recovers within 20%"))
    curves: list[list[Reading]] = []
    for _ in range(400):
        curves = [
            text(0.0, *(chance.gauss(0, 0.004) for _ in range(29)), error=0.004, probe=name) for name in names
        ]
        alarms += any(
            judgement.verdict in ("at risk", "broken")
            for upto in (2, 5, 10, 20, 29)
            for judgement in judge(gates, [r for c in curves for r in c[:upto]], upto / 30)
        )
    assert alarms < 4


def test_noise_alone_seldom_raises_a_suspicion_and_a_steep_rise_does_before_it_is_proven() -> None:
    chance, suspicions = random.Random(5), 0
    for _ in range(400):
        curve = text(0.0, *(chance.gauss(0, 0.004) for _ in range(29)), error=0.004)
        suspicions += any(one("general <= +0.005", curve[:upto], upto / 30).suspect for upto in range(2, 30))
    assert suspicions < 6
    rising = one("general <= +0.01", text(0.0, 0.0145, error=0.004), 0.1)
    assert (rising.verdict, rising.suspect) == ("not shown", True)


def shrunk(generator: np.random.Generator, documents: int, rise: float = 0.0) -> list[Reading]:
    """A text of documents that nothing but noise moves, and a limit that reads a few of them."""
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


def test_a_sample_that_the_probe_share_shrinks_gives_no_false_alarm() -> None:
    generator = np.random.default_rng(3)
    alarms, errors = 0, []
    for _ in range(200):
        readings = shrunk(generator, documents=12)
        errors += [(reading.items, reading.rise_error) for reading in readings[1:]]
        seen = (judge([gate("general <= +0.02")], readings[:n], n / 12)[0].verdict for n in (4, 8, 11))
        alarms += any(found in ("at risk", "broken") for found in seen)
    assert alarms < 4
    few, many = (np.mean([e for n, e in errors if n in counts]) for counts in ((4, 5), (12,)))
    assert few > 1.3 * many  # the paired error says what was lost
    planted = shrunk(generator, documents=200, rise=0.06)
    assert judge([gate("general <= +0.02")], planted, 1.0)[0].verdict == "broken"


def verdicts_of(documents: int, rise: float, rounds: int = 4_000, limit: float = 0.02) -> dict[str, float]:
    """Shares of the verdicts on drawn documents, whose changes differ by as much as a real probe's."""
    generator = np.random.default_rng(7)
    drawn = generator.normal(rise, 0.0075 * math.sqrt(8), (rounds, documents))
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(documents)
    found = [
        one(f"general <= {limit}", text(0.0, mean, error=error, items=documents), 1.0).verdict
        for mean, error in zip(drawn.mean(axis=1).tolist(), errors.tolist(), strict=True)
    ]
    return {word: found.count(word) / rounds for word in ("held", "not shown", "broken")}


@pytest.mark.parametrize("documents", [2, 8, 50, 400])
def test_a_rise_of_exactly_the_limit_is_falsely_held_or_broken_at_most_5_times_in_100(documents: int) -> None:
    found = verdicts_of(documents, 0.02)
    assert found["held"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4_000)
    assert found["broken"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4_000)


def test_a_limit_that_is_exceeded_twice_over_is_not_passed() -> None:
    assert verdicts_of(8, 0.04)["held"] <= 0.005
    assert verdicts_of(400, 0.04)["broken"] > 0.99
    assert verdicts_of(400, 0.0)["held"] > 0.99


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
