"""Rankings: order, ties, and who is not ranked."""

from typing import Any

import numpy as np
import pytest
from results_made import made_results, with_items, with_task

from evals.comparing.leaderboard import leaderboard
from evals.results import Results

N = 60


def model(name: str, right: int, **changes: Any) -> Results:
    """A model that has the first so many of 60 items right."""
    values = np.arange(N) < right
    return made_results(name, {"s/g/t": values, "s/h/u": values}, **changes)


def test_models_are_ranked_and_the_noise_makes_ties() -> None:
    (ranking,) = leaderboard([model("low", 20), model("best", 50), model("near", 48)])
    assert (ranking.suite, ranking.level, ranking.tasks, ranking.not_ranked) == ("s", "quick", 2, ())
    assert [(row.rank, row.model) for row in ranking.standings] == [(1, "best"), (2, "near"), (3, "low")]
    best, near, low = ranking.standings
    assert best.against_best is None
    assert near.against_best is not None
    assert near.against_best.verdict == "no change"
    assert near.against_best.difference == pytest.approx(-2 / N)
    assert low.against_best is not None
    assert low.against_best.verdict == "worse"
    assert best.average.score == pytest.approx(50 / N)
    assert best.average.stderr is not None


def test_equal_scores_share_a_rank() -> None:
    (ranking,) = leaderboard([model("a", 30), model("b", 30), model("c", 10)])
    assert [row.rank for row in ranking.standings] == [1, 1, 3]


def test_the_number_of_models_is_corrected_for() -> None:
    """Seven of sixty lost in both tasks: found alone, not among many."""
    few = [model("best", 50), model("other", 45)]
    many = [*few, *(model(f"same {place}", 50) for place in range(40))]
    alone, among = (
        next(row for row in leaderboard(models)[0].standings if row.model == "other").against_best
        for models in (few, many)
    )
    assert alone is not None
    assert among is not None
    assert among.p_adjusted > alone.p_adjusted
    assert (alone.verdict, among.verdict) == ("worse", "no change")
    (uncorrected,) = leaderboard(many, correction="none")
    (strict,) = leaderboard(few, confidence=0.9999)
    last = [ranking.standings[-1].against_best for ranking in (uncorrected, strict)]
    assert [row.verdict for row in last if row] == ["worse", "no change"]


def test_what_cannot_be_compared_is_named_with_the_reason() -> None:
    shorter = model("shorter", 40)
    shorter = shorter.model_copy(update={"tasks": shorter.tasks[:1]})
    others = [
        model("level", 40, suites={"s": "smoke"}),
        model("settings", 40, settings={"precision": "bf16"}),
        shorter,
        with_task(model("version", 40), "u", version="2"),
        with_items(model("items", 40), "t", ids=tuple(f"x{i}" for i in range(N))),
    ]
    (ranking,) = leaderboard([model("a", 30), *others, model("b", 20)])
    assert [row.model for row in ranking.standings] == ["a", "b"]
    assert {row.model: row.why for row in ranking.not_ranked} == {
        "level": "at level smoke, the others at quick",
        "settings": "precision bf16, the others fp32",
        "shorter": "without u",
        "version": "other items, data or version of u",
        "items": "other items, data or version of t",
    }


def test_suites_are_ranked_apart() -> None:
    one = made_results("one", {"s/g/t": [1, 0], "r/g/x": [1, 1]})
    two = made_results("two", {"r/g/x": [1, 0]})
    rankings = leaderboard([one, two], resamples=50, seed=3)
    assert [(each.suite, len(each.standings)) for each in rankings] == [("s", 1), ("r", 2)]
    assert leaderboard([]) == ()


def test_a_suite_in_which_lower_is_better_has_no_ranking() -> None:
    assert leaderboard([with_task(made_results("m", {"s/g/t": [30, 40]}), "t", higher_is_better=False)]) == ()
