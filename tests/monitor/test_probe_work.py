"""The probe share: plans for runs of all kinds, against what the module promises."""

from dataclasses import replace

import numpy as np
import pytest

from cpt.monitor.probe_work import (
    FORWARD,
    NEEDED,
    SMALLEST,
    Demand,
    ProbeWork,
    planned_shares,
    water_level,
)
from cpt.monitor.schedule import Moment, Regular


def plan(tokens: int, paid: float = 0.05, beside: float = 0.0, **demands: Demand) -> dict[str, list[float]]:
    return planned_shares(ProbeWork(paid, beside), tokens, demands)


def share(tokens: int, shares: dict[str, list[float]], **demands: Demand) -> float:
    """Part of the training's work that a plan takes."""
    return sum(each.done(shares[name]) for name, each in demands.items()) / tokens


def made(shares: list[float]) -> int:
    return sum(each > 0 for each in shares)


def test_cheap_probes_are_all_read_in_full() -> None:
    demands = {"domain": Demand(10, 4, 20), "general": Demand(20, 4, 20)}
    assert plan(20_000, **demands) == {name: [1.0] * 24 for name in demands}


def test_without_an_allowance_all_is_read_in_full() -> None:
    assert planned_shares(None, 10, {"a": Demand(1_000, 2, 3)}) == {"a": [1.0] * 5}


def test_what_is_dear_first_shrinks_and_then_thins_out() -> None:
    def middle(work: float) -> list[float]:
        return plan(10_000, a=Demand(work, 4, 96))["a"][4:]

    plain, shrunk, thinned = middle(4), middle(10), middle(40)
    assert set(plain) == {1.0}
    assert shrunk == pytest.approx([np.mean(shrunk)] * 96)
    assert SMALLEST < np.mean(shrunk) < 1
    assert set(thinned) == {0.0, SMALLEST}
    assert 2 <= made(thinned) < 0.5 * len(thinned)


def test_a_dear_probe_does_not_starve_a_cheap_one() -> None:
    shares = plan(10_000, cheap=Demand(1, 4, 96), dear=Demand(60, 4, 96))
    assert set(shares["cheap"]) == {1.0}
    assert 0 < made(shares["dear"]) < 60


def test_early_readings_are_favoured() -> None:
    (shrunk,) = plan(10_000, a=Demand(10, 6, 60)).values()
    (thinned,) = plan(10_000, a=Demand(60, 6, 60)).values()
    assert np.mean(shrunk[:6]) > np.mean(shrunk[6:])
    assert made(thinned[:6]) / 6 > 2 * made(thinned[6:]) / 60


@pytest.mark.parametrize("paid", [0.02, 0.05, 0.2])
def test_the_share_holds_in_a_thousand_runs_and_most_of_what_is_wanted_is_used(paid: float) -> None:
    for seed in range(334):
        generator = np.random.default_rng(seed)
        names = ["a", "b", "c"][: generator.integers(1, 4)]
        steps = int(generator.integers(100, 400))
        tokens = 1_000 * steps
        most = paid * tokens / len(names) / 8  # at most a quarter of the share for first and last readings
        end = Moment(steps, tokens)
        demands = {
            name: Demand.of(
                float(most * generator.uniform(0.001, 1)),
                Regular(int(generator.integers(2, 50))),
                end,
                divisible=bool(generator.integers(2)),
            )
            for name in names
        }
        beside = paid * tokens * 0.1 * generator.uniform()
        shares = plan(tokens, paid, beside, **demands)
        taken = share(tokens, shares, **demands) + beside / tokens
        assert taken <= paid * (1 + 1e-9), seed
        wanted = sum(each.work * (2 + each.between) for each in demands.values())
        lost = sum(each.work for each in demands.values())  # a reading of each that could not be paid whole
        assert share(tokens, shares, **demands) * tokens >= min(wanted, paid * tokens - beside) - lost, seed


def test_what_is_not_divisible_is_read_in_full_or_not() -> None:
    (shares,) = plan(10_000, a=Demand(40, 0, 50, divisible=False)).values()
    assert set(shares) == {0.0, 1.0}
    assert made(shares) == (500 - 80) // 40


def test_nothing_is_read_between_when_first_and_last_take_all() -> None:
    assert plan(1_000, a=Demand(30, 2, 3)) == {"a": [0.0] * 5}


def test_work_beside_readings_counts() -> None:
    demand = Demand(10, 0, 20)
    assert made(plan(3_000, a=demand)["a"]) > made(plan(3_000, beside=120, a=demand)["a"]) > 0


def test_water_level_shares_evenly() -> None:
    assert water_level({"a": 1, "b": 5, "c": 9}, 9) == 4
    assert water_level({"a": 1, "b": 2}, 3) == float("inf")
    assert water_level({"a": 1, "b": 2}, -1) == 0


def test_a_gated_probe_keeps_its_readings_and_others_thin_out_for_it() -> None:
    other = Demand(6, 4, 99)
    plain = plan(10_000, gated=other, other=other)
    spared = plan(10_000, gated=replace(other, gated=True), other=other)
    assert sum(spared["gated"]) > sum(plain["gated"])
    assert made(spared["other"]) < made(plain["other"])
    assert 0.2 < sum(spared["other"]) / (sum(spared["other"]) + sum(spared["gated"])) < 0.3


def test_a_gated_probe_has_its_least_readings_spread_over_a_run_that_cannot_pay_for_them() -> None:
    demand = Demand.of(50, Regular(5), Moment(100, 1_000))
    shares = plan(1_000, gated=replace(demand, gated=True), other=demand)
    assert made(shares["other"]) == 0
    assert set(shares["gated"]) == {0.0, SMALLEST}
    assert made(shares["gated"]) == NEEDED
    regular = [number for number, each in enumerate(shares["gated"][demand.early :]) if each]
    assert set(np.diff(regular)) <= {1, 2, 3}
    assert regular[-1] >= demand.later - 3
    assert made(plan(1_000, a=demand)["a"]) == 0


def test_where_fewer_readings_are_due_than_are_needed_all_are_made() -> None:
    assert plan(1_000, a=Demand(50, 4, 5, gated=True)) == {"a": [SMALLEST] * 9}


def test_the_least_work_is_that_of_a_plan_without_a_share_for_more() -> None:
    for demand in (Demand(30, 2, 9), Demand(30, 2, 9, gated=True), Demand(30, 9, 40, gated=True)):
        assert demand.done(plan(100, a=demand)["a"]) == pytest.approx(demand.least)


def test_the_quickstart_reads_its_gap_at_eight_moments_and_more() -> None:
    # 98,000 tokens in 48 steps of 8 sequences; two texts of 2,000 tokens; weights; new tokens; samples
    end = Moment(48, 98_000)
    demands = {name: Demand.of(FORWARD * 2_000, Regular(10), end) for name in ("domain", "general")}
    demands |= {"weights": Demand.of(100, Regular(50), end, divisible=False)}
    demands |= {"new-tokens": Demand.of(25, Regular(10), end, divisible=False)}
    shares = plan(98_000, 0.1, 130.0, **demands)
    for name in ("domain", "general", "new-tokens"):
        assert made(shares[name]) == 8, name
    assert min(shares["domain"]) >= SMALLEST
    assert share(98_000, shares, **demands) <= 0.1


def test_a_gate_reads_enough_documents_or_not_at_all() -> None:
    few, many, unknown = (Demand(100, 4, 16, gated=True, items=items) for items in (41, 400, None))
    assert few.smallest == pytest.approx(30 / 41)
    assert Demand(100, 4, 16, gated=True, items=12).smallest == 1
    assert many.smallest == unknown.smallest == Demand(100, 4, 16, items=41).smallest == SMALLEST
    assert few.least == many.least  # what is made in any case costs the same
    shares = plan(3_000, a=few)["a"]
    made = [share for share in shares if share]
    assert 0 < len(made) < few.between
    assert min(made) == pytest.approx(30 / 41)
    assert 100 * sum(made) <= 3_000
