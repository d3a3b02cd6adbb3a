"""The time budget of probes, in simulated runs with costs and speeds of all kinds."""

from dataclasses import replace

import numpy as np
import pytest

from cpt.monitor.budget import (
    NEEDED,
    SMALLEST,
    Clock,
    Outlook,
    allot,
    expected_cost,
    least_share,
    water_level,
)
from cpt.monitor.schedule import Moment, Regular


class Run:
    """A simulated run: what is read when, and what it takes."""

    def __init__(
        self,
        costs: dict[str, float],
        every: dict[str, int],
        steps: int,
        budget: float = 0.05,
        noise: float = 0.0,
        seed: int = 0,
        faster: float = 1.0,
        gated: frozenset[str] = frozenset(),
    ) -> None:
        """
        Args:
            costs: seconds of a full reading, in those that a step takes.
            noise: how much single readings and steps differ.
            faster: how much faster steps are at the end than at the beginning.
            gated: probes on which a gate acts.
        """
        generator = np.random.default_rng(seed)
        end, names = Moment(steps, steps), list(costs)
        known: dict[str, float] = {}
        saved = dict.fromkeys(names, 0.0)
        self.read: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
        self.training = self.probing = 0.0

        def read(name: str, step: int, share: float) -> None:
            taken = costs[name] * share * generator.uniform(1 - noise, 1 + noise)
            self.probing += taken
            known[name] = expected_cost(known.get(name), taken, share)
            self.read[name].append((step, share))

        for name in names:
            read(name, 0, 1.0)
        for step in range(1, steps):
            taken = generator.uniform(1 - noise, 1 + noise) * (1 + (1 / faster - 1) * step / steps)
            self.training += taken
            now, before = Moment(step, step), Moment(step - 1, step - 1)
            whens = {name: Regular(every[name]) for name in names}
            probes = {
                name: Outlook(
                    known[name],
                    when.left(now, end),
                    when.due(before, now),
                    when.early(now),
                    saved=saved[name],
                    gated=name in gated,
                    read=len(self.read[name]) - 1,
                )
                for name, when in whens.items()
            }
            pace = min(taken, self.training / step)
            clock = Clock(self.training, pace, steps - step, self.probing, step)
            for name, given in allot(budget, clock, probes).items():
                saved[name] = given.saved
                if given.share:
                    read(name, step, given.share)
        self.training += 1 / faster
        for name in names:
            read(name, steps, 1.0)

    @property
    def share(self) -> float:
        return self.probing / self.training


def test_cheap_probes_are_all_read_in_full() -> None:
    run = Run({"domain": 0.01, "general": 0.02}, {"domain": 10, "general": 10}, 200)
    steps = [0, 1, 2, 4, 8, *range(10, 201, 10)]
    assert run.read == {name: [(step, 1.0) for step in steps] for name in ("domain", "general")}


def test_what_is_dear_first_shrinks_and_then_thins_out() -> None:
    def middle(cost: float) -> list[float]:
        return [share for step, share in Run({"a": cost}, {"a": 10}, 1000).read["a"] if 10 < step < 1000]

    plain, shrunk, thinned = middle(0.2), middle(0.8), middle(4.0)
    assert set(plain) == {1.0}
    assert len(shrunk) == len(plain)
    assert SMALLEST < np.mean(shrunk) < 0.9
    assert 2 <= len(thinned) < 0.7 * len(plain)
    assert np.mean(thinned) < 0.6


def test_a_dear_probe_does_not_starve_a_cheap_one() -> None:
    run = Run({"cheap": 0.05, "dear": 5.0}, {"cheap": 10, "dear": 10}, 1000)
    assert {share for _, share in run.read["cheap"]} == {1.0}
    assert len(run.read["cheap"]) == 105
    assert len(run.read["dear"]) < 60


def test_early_readings_are_favoured() -> None:
    run = Run({"a": 10.0}, {"a": 64}, 2000)
    early = [share for step, share in run.read["a"] if 0 < step < 64]
    later = [share for step, share in run.read["a"] if 64 <= step < 2000]
    assert len(early) / 6 > len(later) / 31
    assert np.mean(early) > np.mean(later)


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.2])
def test_the_budget_holds_in_a_thousand_runs_and_first_and_last_are_always_read(budget: float) -> None:
    for seed in range(334):
        generator = np.random.default_rng(seed)
        names = ["a", "b", "c"][: generator.integers(1, 4)]
        steps = int(generator.integers(100, 400))
        # at most a third of the budget goes to the readings that are made in any case
        most = budget * steps / len(names) / 8
        costs = {name: float(most * generator.uniform(0.001, 1)) for name in names}
        every = {name: int(generator.integers(2, 50)) for name in names}
        run = Run(costs, every, steps, budget, 0.2, seed, float(generator.uniform(0.5, 1.8)))
        assert run.share <= budget, seed
        for readings in run.read.values():
            assert readings[0] == (0, 1.0)
            assert readings[-1] == (steps, 1.0)


def test_most_of_a_budget_that_is_wanted_is_used() -> None:
    assert 0.8 * 0.05 < Run({"a": 1.0}, {"a": 5}, 1000).share <= 0.05


def test_what_is_not_divisible_is_read_in_full_or_not() -> None:
    clock = Clock(training=100, pace=1, left=900, probing=0)
    whole = Outlook(cost=10, left=20, divisible=False)
    given = allot(0.05, clock, {"w": whole})["w"]
    assert given.share == 0
    assert 0 < given.saved < 1
    assert allot(0.05, clock, {"w": replace(whole, saved=0.99)})["w"].share == 1


def test_nothing_is_read_between_when_first_and_last_take_all() -> None:
    clock = Clock(training=10, pace=1, left=90, probing=4)
    assert allot(0.05, clock, {"a": Outlook(4, 5)})["a"].share == 0


def test_water_level_shares_evenly() -> None:
    assert water_level({"a": 1, "b": 5, "c": 9}, 9) == 4
    assert water_level({"a": 1, "b": 2}, 3) == float("inf")
    assert water_level({"a": 1, "b": 2}, -1) == 0


GATED = frozenset({"gated"})


def between(run: Run, name: str) -> list[tuple[int, float]]:
    """Readings of a probe that are neither the first nor the last."""
    return run.read[name][1:-1]


def test_a_gated_probe_keeps_its_readings_and_others_thin_out_for_it() -> None:
    costs, every = {"gated": 0.6, "other": 0.6}, {"gated": 10, "other": 10}
    plain, spared = Run(costs, every, 1000), Run(costs, every, 1000, gated=GATED)
    due = 4 + 99
    assert len(between(spared, "gated")) == due
    assert np.mean([share for _, share in between(spared, "gated")]) > np.mean(
        [share for _, share in between(plain, "gated")]
    )
    assert len(between(spared, "other")) < len(between(plain, "other"))
    read = {name: sum(share for _, share in between(spared, name)) for name in costs}
    assert 0.2 < read["other"] / sum(read.values()) < 0.3
    assert spared.share <= 0.05


def test_a_gated_probe_has_its_least_readings_spread_over_a_run_that_cannot_pay_for_them() -> None:
    run = Run({"gated": 5.0, "other": 5.0}, {"gated": 5, "other": 5}, 100, gated=GATED)
    assert between(run, "other") == []
    read = between(run, "gated")
    assert {share for _, share in read} == {SMALLEST}
    assert len(read) == NEEDED
    steps = [0, *(step for step, _ in read), 100]
    assert max(np.diff(steps)) <= 2 * 100 / NEEDED
    assert len(between(Run({"gated": 5.0}, {"gated": 5}, 100), "gated")) == 0


def test_where_fewer_readings_are_due_than_are_needed_all_are_made() -> None:
    run = Run({"gated": 5.0}, {"gated": 20}, 100, gated=GATED)
    assert [step for step, _ in run.read["gated"]] == [0, 1, 2, 4, 8, 16, 20, 40, 60, 80, 100]


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.2])
def test_beside_gated_probes_the_budget_holds_or_nothing_else_is_read(budget: float) -> None:
    for seed in range(50):
        generator = np.random.default_rng(seed)
        steps = int(generator.integers(100, 400))
        most = budget * steps / 8
        costs = {name: float(most * generator.uniform(0.001, 1)) for name in ("gated", "a", "b")}
        every = {name: int(generator.integers(2, 30)) for name in costs}
        faster = float(generator.uniform(0.5, 1.8))
        run = Run(costs, every, steps, budget, 0.2, seed, faster, GATED)
        due = Regular(every["gated"]).left(Moment(0, 0), Moment(steps, steps))
        assert len(between(run, "gated")) >= min(NEEDED, due), seed
        needed = 1.2 * (2 * sum(costs.values()) + SMALLEST * min(NEEDED, due) * costs["gated"])
        assert run.probing <= max(budget * run.training, needed), seed


def test_least_share_counts_first_and_last_and_what_gates_need() -> None:
    read, due = {"gated": 300, "other": 300}, {"gated": 100, "other": 100}
    assert least_share(6_000, read, due, ()) == pytest.approx(4 * 300 / 18_000)
    assert least_share(6_000, read, due, GATED) == pytest.approx((4 + SMALLEST * NEEDED) * 300 / 18_000)
    assert least_share(6_000, read, {**due, "gated": 4}, GATED) == pytest.approx(5 * 300 / 18_000)
