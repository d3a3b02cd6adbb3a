"""Schedules over whole runs: what each kind does, and what all of them keep to."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from cpt.errors import UsageError
from cpt.training.schedules import (
    KINDS,
    Constant,
    Cosine,
    Infinite,
    Linear,
    Power,
    Reuse,
    RewarmCosine,
    Rex,
    ScheduleConfig,
    Wsd,
)

SCHEDULES: list[ScheduleConfig] = [
    Constant(),
    Linear(floor=1e-5),
    Cosine(),
    RewarmCosine(),
    Rex(),
    Reuse(start=3e-5),
    Infinite(),
    Infinite(cooldown="inverse-sqrt", warmup=0.2),
    Infinite(continues=True),
    Infinite(continues=True, warmup=0.1, anneal_share=0),
    Infinite(continues=True, constant=5e-4),
    Wsd(),
    Wsd(decay="linear", min_ratio=0.1),
    Wsd(decay="cosine", warmup=0, decay_share=0.5),
    Power(batch=128, tokens=10**10),
    Power(batch=8, tokens=10**6, warmup=0, decay="linear"),
]
STEPS = [1, 2, 3, 7, 20, 400, 1001]


def rates(schedule: ScheduleConfig, steps: int) -> list[float]:
    return [schedule.rate(step, steps) for step in range(steps)]


def lengths(schedule: ScheduleConfig, steps: int) -> dict[str, int]:
    return {phase.name: phase.length for phase in schedule.phases(steps)}


def test_every_kind_is_tried() -> None:
    assert {schedule.kind for schedule in SCHEDULES} == set(KINDS)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_what_all_schedules_keep_to(schedule: ScheduleConfig, steps: int) -> None:
    found, phases = rates(schedule, steps), schedule.phases(steps)
    assert all(0 <= rate <= schedule.highest and math.isfinite(rate) for rate in found)
    assert found[0] > 0
    assert [phase.first for phase in phases] == [0, *(phase.last + 1 for phase in phases[:-1])]
    assert phases[-1].last == steps - 1
    assert phases[-1].final
    for phase in phases:
        inside = found[phase.first : phase.last + 1]
        falling = sorted(inside, reverse=phase.name != "warmup")
        assert inside == falling
        if phase.final and phase.length > 1 and phase.name != "warmup":
            assert inside[-1] == pytest.approx(phase.curve(1.0))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_at_the_border_of_two_phases_the_rate_moves_as_little_as_inside_them(
    schedule: ScheduleConfig,
) -> None:
    steps = 1000
    found = rates(schedule, steps)
    phases = schedule.phases(steps)
    for before, after in pairwise(phases):
        border = abs(found[after.first] - found[before.last])
        inside = max(
            abs(found[step + 1] - found[step])
            for phase in (before, after)
            for step in range(phase.first, phase.last)
        )
        assert border <= inside + 1e-12
        assert before.curve(1.0) == pytest.approx(after.curve(0.0))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_rate_after_the_end_is_the_last(schedule: ScheduleConfig) -> None:
    assert schedule.rate(105, 100) == schedule.rate(99, 100) == pytest.approx(schedule.rate(100, 100))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_in_tokens_equal_steps_have_the_rates_of_steps(schedule: ScheduleConfig) -> None:
    steps, size = 400, 512
    in_tokens = [schedule.rate(step * size, steps * size, size) for step in range(steps)]
    assert in_tokens == pytest.approx(rates(schedule, steps), rel=1e-9)


def test_in_tokens_a_longer_step_goes_further() -> None:
    sizes = [100, 300, 50, 250, 300]
    done = [sum(sizes[:step]) for step in range(5)]
    schedule = Linear(peak=1.0, floor=0.0, warmup=0)
    found = [schedule.rate(before, 1000, size) for before, size in zip(done, sizes, strict=True)]
    assert found == pytest.approx(
        [1 - before / (1000 - size) for before, size in zip(done, sizes, strict=True)]
    )
    assert found[-1] == 0


def test_an_empty_run_has_no_rate() -> None:
    with pytest.raises(ValueError, match="a run of 0 steps"):
        Constant().rate(0, 0)


def test_rewarm_cosine_follows_the_closed_form() -> None:
    found = rates(RewarmCosine(peak=3e-4, floor=3e-5, warmup=0.1), 112)
    warmup = 11
    assert found[:warmup] == [3e-4 * (step + 1) / warmup for step in range(warmup)]
    assert found[warmup:] == [
        3e-5 + (3e-4 - 3e-5) / 2 * (1 + math.cos(math.pi * (step / 100))) for step in range(101)
    ]


def test_cosine_is_rewarm_cosine_with_another_default_floor() -> None:
    assert (Cosine().floor, RewarmCosine().floor) == (0, 1e-5)
    assert rates(Cosine(floor=1e-5), 50) == rates(RewarmCosine(), 50)


def test_constant_stays_at_the_peak() -> None:
    assert rates(Constant(peak=1e-4, warmup=0.25), 8) == pytest.approx([5e-5] + [1e-4] * 7)


def test_linear_and_rex_follow_their_forms() -> None:
    assert rates(Linear(peak=1, floor=0.2, warmup=0), 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert rates(Rex(peak=1, floor=0, warmup=0), 5) == pytest.approx([1, 0.8571, 0.6667, 0.4, 0], abs=5e-5)


def test_reuse_starts_where_the_base_ended_and_falls_to_a_hundredth() -> None:
    found = rates(Reuse(start=4e-5), 101)
    assert (found[0], found[50], found[-1]) == pytest.approx((4e-5, 4e-5 * 0.505, 4e-7))
    assert rates(Reuse(start=4e-5, min_ratio=0.5), 3)[-1] == pytest.approx(2e-5)


def test_infinite_goes_through_its_four_phases() -> None:
    schedule = Infinite(warmup=0.1, cooldown_share=0.4, anneal_share=0.2)
    assert lengths(schedule, 100) == {"warmup": 10, "cooldown": 40, "constant": 30, "anneal": 20}
    found = rates(schedule, 100)
    assert found[9] == found[10] == 3e-4
    assert found[20] == pytest.approx(2.8023e-4, abs=5e-9)  # a quarter of the cooldown
    assert found[50:81] == pytest.approx([1.65e-4] * 31)
    assert found[-1] == pytest.approx(3e-5)
    assert found[81] / found[80] == pytest.approx(found[99] / found[98])  # geometric


def test_infinite_defaults_are_the_papers() -> None:
    assert lengths(Infinite(), 1000) == {"warmup": 10, "cooldown": 600, "constant": 240, "anneal": 150}


def test_a_later_run_of_infinite_goes_on_where_the_anneal_began() -> None:
    first, later = Infinite(), Infinite(continues=True)
    begins = first.anneal_begins(1000)
    assert begins == 850
    assert later.rate(0, 500) == first.rate(begins - 1, 1000) == 1.65e-4
    assert lengths(later, 500) == {"constant": 425, "anneal": 75}
    assert rates(later, 500)[-1] == pytest.approx(3e-5)
    assert rates(Infinite(continues=True, warmup=0.02), 500)[:10] == pytest.approx(
        [1.65e-5 * (step + 1) for step in range(10)]
    )


def test_infinite_without_anneal_has_no_step_at_which_it_begins() -> None:
    assert Infinite(anneal_share=0).anneal_begins(100) is None
    assert rates(Infinite(anneal_share=0), 100)[-1] == 1.65e-4


@pytest.mark.parametrize("schedule", [Constant(), Linear(), Cosine(), RewarmCosine(), Rex(), Reuse(start=1)])
def test_schedules_that_nothing_can_continue_have_no_last_fall(schedule: ScheduleConfig) -> None:
    assert schedule.anneal_begins(100) is None


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("1-sqrt", [1, 0.5, 0.2929, 0.1340, 0]),
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, 0.8536, 0.5, 0.1464, 0]),
    ],
)
def test_wsd_stays_and_decays(decay: Any, expected: list[float]) -> None:
    schedule = Wsd(peak=1, warmup=0.1, decay=decay, decay_share=0.25)
    assert lengths(schedule, 20) == {"warmup": 2, "stable": 13, "decay": 5}
    assert schedule.anneal_begins(20) == 15
    assert rates(schedule, 20) == pytest.approx([0.5, 1] + [1] * 13 + expected, abs=5e-5)
    least = schedule.model_copy(update={"min_ratio": 0.1})
    assert rates(least, 20)[15:] == pytest.approx([0.9 * factor + 0.1 for factor in expected], abs=5e-5)


def test_power_follows_the_tokens_seen_between_warmup_and_decay() -> None:
    schedule = Power(batch=128, tokens=10**11, warmup=0.01, decay_share=0.1, min_ratio=0.2)
    law = {n: 128 * 4.6 * n**-0.51 for n in (10**9, 5 * 10**10, 9 * 10**10)}
    found = rates(schedule, 1000)
    assert lengths(schedule, 1000) == {"warmup": 10, "power": 890, "decay": 100}
    assert found[4] == pytest.approx(law[10**9] / 2)
    assert found[10] == pytest.approx(law[10**9]) == pytest.approx(0.015134, abs=5e-7)
    assert found[500] == pytest.approx(law[5 * 10**10])
    assert found[900] == pytest.approx(law[9 * 10**10])
    assert found[-1] == pytest.approx(0.2 * law[9 * 10**10])


def test_power_is_bounded_by_its_peak() -> None:
    assert Power(batch=128, tokens=10**11, warmup=0).rate(0, 1000) == 0.02
    assert Power(batch=128, tokens=10**11, warmup=0, peak=0.01).rate(1, 1000) == 0.01


def test_power_takes_batch_and_tokens_from_the_run_unless_they_are_set() -> None:
    run = Power().for_run(batch=16, tokens=10**9)
    assert rates(run, 50) == rates(Power(batch=16, tokens=10**9), 50)
    kept = Power(batch=128, tokens=10**10).for_run(batch=16, tokens=10**9)
    assert (kept.batch, kept.tokens) == (128, 10**10)
    with pytest.raises(UsageError, match="depends on the tokens of the run"):
        Power().rate(0, 10)


def test_other_schedules_do_not_depend_on_the_run() -> None:
    assert Cosine().for_run(batch=1, tokens=1) == Cosine()


@pytest.mark.parametrize(
    ("schedule", "fewest"),
    [(Wsd(), 16), (Infinite(), 10), (Infinite(continues=True), 10), (Wsd(decay_share=0), 1)],
)
def test_a_run_too_short_for_a_fall_says_so(schedule: ScheduleConfig, fewest: int) -> None:
    assert schedule.too_short(fewest) is None
    if fewest > 1:
        assert "too few to fall in" in (schedule.too_short(fewest - 1) or "")


def test_the_share_at_which_a_rate_is_reached_has_a_closed_form() -> None:
    """Reuse falls along a cosine from 1 to 0.01: a fifth is reached at acos(0.19 / 0.495 - 1) / pi."""
    assert Reuse(start=1.0).share_at(0.2) == pytest.approx(math.acos(0.19 / 0.495 - 1) / math.pi, abs=2e-6)
    assert Linear(warmup=0.05).share_at(0.5) == pytest.approx(0.05 + 0.95 / 2, abs=2e-6)
    assert Wsd(warmup=0.1, decay="linear", decay_share=0.2).share_at(0.25) == pytest.approx(0.95, abs=2e-6)
    assert Linear(warmup=0.05).share_at(1.0) == pytest.approx(0.05, abs=2e-6)
    assert Constant().share_at(0.99) is None
    assert Reuse(start=1.0, min_ratio=0.3).share_at(0.2) is None
