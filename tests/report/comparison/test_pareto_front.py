"""Which runs are worth choosing from: against closed forms, brute force and simulated noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpt.report.comparison.pareto_front import (
    Changes,
    Documents,
    Estimate,
    are_paired,
    difference,
    dominated_by,
    dominates,
    independent,
    is_lower,
    lowest,
)
from cpt.report.schema import Interval


def about(value: float, half: float | None = None) -> Estimate:
    if half is None:
        return Estimate(Interval(value=value))
    return Estimate(Interval(value=value, low=value - half, high=value + half))


def measured(nats: list[float], sizes: list[float], texts: str) -> Documents:
    return Documents(tuple(texts), np.array(nats), np.array(sizes))


def test_independent_intervals_add_in_squares() -> None:
    found = independent(about(1.0, 0.03).interval, about(1.5, 0.04).interval)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.45, 0.55))


def test_each_side_of_an_uneven_interval_counts_where_it_faces_the_other() -> None:
    a = Interval(value=0.0, low=-9.0, high=0.3)
    b = Interval(value=1.0, low=0.6, high=9.0)
    found = independent(a, b)
    assert found.low == pytest.approx(1 - math.hypot(0.3, 0.4))
    assert found.high == pytest.approx(1 + math.hypot(9.0, 8.0))


def test_without_an_interval_nothing_is_known_of_the_difference() -> None:
    assert not independent(about(1.0).interval, about(2.0, 0.1).interval).known


def test_a_difference_counts_beyond_noise_and_beyond_what_is_written() -> None:
    assert is_lower(about(0.0, 0.03), about(0.06, 0.04))
    assert not is_lower(about(0.0, 0.03), about(0.04, 0.04))
    assert not is_lower(about(0.0, 1e-6), about(0.0004, 1e-6))
    assert is_lower(about(0.0), about(0.0005))
    assert not is_lower(about(0.0), about(0.0004))
    assert not is_lower(about(0.1, 0.01), about(0.0, 0.01))


def test_the_same_documents_make_a_difference_known_far_better() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(200, 2000, 300).astype(float)
    hard = sizes * rng.normal(0.7, 0.2, 300)  # what is hard for one run is hard for the other
    texts = tuple(str(index) for index in range(300))
    a = Documents(texts, hard, sizes)
    b = Documents(texts, hard + sizes * rng.normal(0.01, 0.01, 300), sizes)
    wide = Interval(value=-0.5, low=-0.6, high=-0.4)
    gain = (b.nats.sum() - a.nats.sum()) / sizes.sum() / math.log(2)
    first, second = Estimate(wide, a), Estimate(Interval(value=-0.5 + gain, low=-0.6, high=-0.4), b)
    assert are_paired(first, second)
    assert is_lower(first, second)
    assert not is_lower(Estimate(first.interval), Estimate(second.interval))
    shuffled = rng.permutation(300)
    again = Documents(tuple(texts[i] for i in shuffled), b.nats[shuffled], b.bytes[shuffled])
    paired = difference(first, second)
    assert paired.low == pytest.approx(difference(first, second._replace(documents=again)).low)


def test_the_paired_interval_is_the_ratio_estimators() -> None:
    a = Estimate(Interval(value=0.0), measured([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "xyz"))
    b = Estimate(Interval(value=0.5), measured([1.5, 2.0, 4.0], [1.0, 1.0, 1.0], "xyz"))
    error = np.std([0.5, 0.0, 1.0], ddof=1) / math.sqrt(3) / math.log(2)  # the mean's of the differences
    found = difference(a, b)
    assert found.high is not None
    assert found.high - 0.5 == pytest.approx(1.96 * error)


def test_other_documents_are_not_paired() -> None:
    a = Estimate(Interval(value=0.0), measured([1.0, 2.0], [1.0, 1.0], "xy"))
    b = Estimate(Interval(value=0.0), measured([1.0, 2.0], [1.0, 1.0], "xz"))
    one = Estimate(Interval(value=0.0), measured([1.0], [1.0], "x"))
    assert not are_paired(a, b)
    assert not are_paired(one, one)
    assert not are_paired(a, about(0.0))


def test_noise_alone_tells_no_two_runs_apart() -> None:
    """Two runs whose documents differ by noise: fewer than 6% of 1,000 differences leave the interval."""
    rng = np.random.default_rng(7)
    sizes = rng.integers(200, 2000, 60).astype(float)
    texts = tuple(map(str, range(60)))
    told = 0
    for _ in range(1000):
        a, b = (Documents(texts, sizes * rng.normal(0.7, 0.05, 60), sizes) for _ in range(2))
        gap = (b.nats.sum() - a.nats.sum()) / sizes.sum() / math.log(2)
        told += not difference(Estimate(Interval(value=0.0), a), Estimate(Interval(value=gap), b)).is_noise
    assert told < 80


def test_the_lowest_and_what_noise_does_not_tell_from_it() -> None:
    figures = {"a": about(0.3, 0.01), "b": about(0.1, 0.05), "c": about(0.12, 0.01)}
    assert lowest(figures) == ["b", "c"]
    assert lowest({"a": about(1.0)}) == ["a"]


def test_beating_needs_one_clear_gain_and_no_clear_loss() -> None:
    base = Changes(about(-0.3, 0.01), about(0.02, 0.01))
    assert dominates(base, Changes(about(-0.2, 0.01), about(0.02, 0.01)))
    assert dominates(base, Changes(about(-0.2, 0.01), about(0.019, 0.01)))  # a little worse, within the noise
    assert not dominates(base, Changes(about(-0.2, 0.01), about(0.0, 0.01)))
    assert not dominates(base, base)


def test_without_noise_the_front_is_paretos() -> None:
    rng = np.random.default_rng(3)
    points = {str(i): (float(x), float(y)) for i, (x, y) in enumerate(rng.random((25, 2)))}
    runs = {name: Changes(about(x, 0.0), about(y, 0.0)) for name, (x, y) in points.items()}
    found = {name for name, others in dominated_by(runs).items() if not others}
    brute = {
        name
        for name, (x, y) in points.items()
        if not any(u <= x - 0.0005 and v <= y - 0.0005 for u, v in points.values() if (u, v) != (x, y))
        and not any(
            (u <= x - 0.0005 and v < y + 0.0005) or (v <= y - 0.0005 and u < x + 0.0005)
            for u, v in points.values()
        )
    }
    assert found == brute
    assert found


def test_some_run_is_always_on_the_front() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        drawn = rng.random((6, 4))
        runs = {str(i): Changes(about(x, 0.3 * u), about(y, 0.3 * v)) for i, (x, y, u, v) in enumerate(drawn)}
        assert any(not others for others in dominated_by(runs).values())


def test_runs_that_beat_each_other_in_a_circle_are_all_on_the_front(monkeypatch) -> None:
    order = dict(zip("abc", "bca", strict=True))
    runs = {name: Changes(about(i), about(i)) for i, name in enumerate("abc")}
    names = {id(changes): name for name, changes in runs.items()}
    monkeypatch.setattr(
        "cpt.report.comparison.pareto_front.dominates", lambda a, b: order[names[id(a)]] == names[id(b)]
    )
    assert dominated_by(runs) == {"a": [], "b": [], "c": []}
