"""Factors: parsing, grids in balanced order, random configurations and TPE."""

from __future__ import annotations

from collections import Counter

import pytest

from cpt.errors import RecipeError
from cpt.sweep.factors import (
    Factor,
    grid,
    parse_factors,
    parse_seeds,
    propose,
    random_configurations,
    spread,
)


def test_values_are_yaml() -> None:
    found = parse_factors(
        [
            "pretrain.replay=0,0.05",
            "pretrain.schedule={kind: constant, peak: 1e-4},{kind: cosine}",
            "a.b=x,true",
        ],
        "grid",
    )
    assert found[0] == Factor(key="pretrain.replay", levels=(0, 0.05))
    assert found[1].levels == ({"kind": "constant", "peak": 1e-4}, {"kind": "cosine"})
    assert found[2].levels == ("x", True)


def test_ranges() -> None:
    (found,) = parse_factors(["pretrain.schedule.peak=1e-5..1e-3 log"], "tpe")
    assert (found.low, found.high, found.log, found.levels) == (1e-5, 1e-3, True, ())
    (found,) = parse_factors(["pretrain.replay=0..0.5"], "random")
    assert (found.low, found.high, found.log) == (0.0, 0.5, False)


def test_all_mistakes_are_told_at_once() -> None:
    texts = [
        "a.b",
        "a.c=1",
        "a.d=2..1",
        "a.e=0..1 log",
        "a.f=1,1",
        "a.g=1..2",
        "a.h=1,2",
        "a.h=3,4",
        "a.i=[1,2",
        "seed=1,2",
    ]
    with pytest.raises(RecipeError) as caught:
        parse_factors(texts, "grid")
    messages = [problem.message for problem in caught.value.problems]
    expected = [
        "write KEY=VALUE",
        "one value",
        "is empty",
        "begins above 0",
        "occurs twice",
        "is a range",
        "varied twice",
        "every run has its own seed",
    ]
    for words in expected:
        assert any(words in message for message in messages), words
    assert len(messages) == 9


def test_seeds() -> None:
    assert parse_seeds("3", 17) == [17, 18, 19]
    assert parse_seeds("5, 9", 17) == [5, 9]
    assert parse_seeds("5,", 17) == [5]
    for wrong in ("", "0", "x", "1,1", "-2"):
        with pytest.raises(ValueError, match="seed"):
            parse_seeds(wrong, 17)


FACTORS = [
    Factor(key="a", levels=(1, 2, 3)),
    Factor(key="b", levels=("x", "y")),
    Factor(key="c", levels=(0, 1)),
]


def test_a_grid_holds_every_combination_once() -> None:
    found = grid(FACTORS)
    assert len(found) == 12
    assert len({tuple(each.values()) for each in found}) == 12
    assert found[0] == {"a": 1, "b": "x", "c": 0}
    assert found[1] == {"a": 1, "b": "x", "c": 1}


def test_every_beginning_of_a_spread_grid_is_balanced() -> None:
    ordered = spread(grid(FACTORS), FACTORS)
    assert sorted(map(str, ordered)) == sorted(map(str, grid(FACTORS)))
    for length in range(1, 13):
        for factor in FACTORS:
            counts = Counter(each[factor.key] for each in ordered[:length])
            most = max(counts.values())
            least = min(counts.get(level, 0) for level in factor.levels)
            assert most - least <= 2, (length, factor.key, counts)
    first = ordered[:6]
    assert {each["a"] for each in first[:3]} == {1, 2, 3}
    assert Counter((each["b"], each["c"]) for each in ordered[:4]) == Counter(
        {("x", 0): 1, ("y", 1): 1, ("x", 1): 1, ("y", 0): 1}
    )


def test_random_configurations_begin_alike_and_differ() -> None:
    factors = [Factor(key="a", levels=(1, 2)), Factor(key="p", low=1e-5, high=1e-3, log=True)]
    few, many = random_configurations(factors, 3, 5), random_configurations(factors, 40, 5)
    assert many[:3] == few
    assert len({str(each) for each in many}) == 40
    assert all(1e-5 <= each["p"] <= 1e-3 for each in many)
    below = sum(each["p"] < 1e-4 for each in many)
    assert 10 <= below <= 30  # half of a logarithmic range
    assert random_configurations([FACTORS[1]], 5, 5)
    assert len(random_configurations([FACTORS[1]], 5, 5)) == 2


def test_tpe_is_a_function_of_the_results_and_finds_the_valley() -> None:
    factors = [Factor(key="p", low=1e-5, high=1e-1, log=True), Factor(key="k", levels=("good", "bad"))]

    def loss(values: dict[str, object]) -> float:
        from math import log10

        return (log10(float(values["p"])) + 3) ** 2 + (values["k"] == "bad")  # type: ignore[arg-type]

    tried: list[tuple[dict[str, object], float, float | None]] = []
    for _ in range(25):
        values = propose(factors, tried, 3)
        assert values == propose(factors, tried, 3)
        tried.append((values, loss(values), None))
    assert min(value for _, value, _ in tried) < 0.05
    late = [values for values, _, _ in tried[15:]]
    assert sum(values["k"] == "good" for values in late) > 6


def test_tpe_keeps_to_the_limit() -> None:
    factors = [Factor(key="x", low=0.0, high=1.0)]
    tried: list[tuple[dict[str, object], float, float | None]] = []
    for _ in range(25):  # the larger x the better, and not allowed above 0.5
        values = propose(factors, tried, 1)
        x = float(values["x"])  # type: ignore[arg-type]
        tried.append((values, -x, x - 0.5))
    late = [float(values["x"]) for values, _, _ in tried[12:]]  # type: ignore[arg-type]
    assert sum(0.3 < x <= 0.5 for x in late) >= 4  # 13 of a uniform draw: 2.6
    assert sum(x > 0.6 for x in late) <= 3  # without the limit it goes there: 13 of 13 were above 0.65


def test_tpe_over_levels_proposes_nothing_twice() -> None:
    factors = [FACTORS[0]]
    tried: list[tuple[dict[str, object], float, float | None]] = []
    for _ in range(3):
        values = propose(factors, tried, 1)
        tried.append((values, float(values["a"]), None))  # type: ignore[arg-type]
    assert {values["a"] for values, _, _ in tried} == {1, 2, 3}
