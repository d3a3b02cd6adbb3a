"""The retention score by hand, and that its interval covers."""

import numpy as np
import pytest
from results_made import made_results, right_and_wrong, with_task

from cpt.errors import UsageError
from evals.comparing.comparison import Comparison, compare
from evals.comparing.retention import retention, retentions


def compared(*, general: str = "general", chance: float | None = None) -> Comparison:
    """The domain wins 3 of 10 items, the general suite loses 1 of 5 in one of two tasks."""
    a = {"medical/m/m": [0, 0, 0, 1, 1] * 2, f"{general}/x/x": [1, 1, 1, 0, 0], f"{general}/y/y": [1, 0]}
    b = {
        "medical/m/m": [1, 1, 1, 1, 1, *[0, 0, 0, 1, 1]],
        f"{general}/x/x": [0, 1, 1, 0, 0],
        f"{general}/y/y": [1, 0],
    }
    sides = (
        with_task(made_results(model, tasks), "m", chance=chance) for model, tasks in (("a", a), ("b", b))
    )
    return compare(*sides, resamples=200)


def test_gain_and_loss_are_added_in_points() -> None:
    found = retention(compared(), "medical")
    assert found.gain.points == pytest.approx(30)
    assert found.elsewhere.points == pytest.approx(-10)
    assert found.points == pytest.approx(20)
    tasks = compared().tasks
    errors = np.array([100, 50, 50]) * [task.stderr or 0.0 for task in tasks]
    assert found.stderr == pytest.approx(np.sqrt(np.square(errors).sum()))
    assert found.verdict == "no change"


def test_points_are_of_the_range_above_guessing() -> None:
    assert retention(compared(chance=0.25), "medical").gain.points == pytest.approx(30 / 0.75)


def test_every_domain_has_one_if_there_is_something_to_hold_it_against() -> None:
    assert [found.domain for found in retentions(compared())] == ["medical"]
    assert retentions(compared(general="other")) == ()
    assert [found.general for found in retentions(compared(general="other"), "other")] == ["other"]
    with pytest.raises(UsageError, match="no retention score: legal and general was not compared"):
        retention(compared(general="other"), "legal")


def test_a_model_against_itself_scores_nothing() -> None:
    a = made_results("a", {"medical/m/m": [0, 1, 1], "general/x/x": [1, 0, 0]})
    found = retention(compare(a, a), "medical")
    assert (found.points, found.stderr, found.interval, found.verdict) == (0.0, 0.0, None, "no change")


def test_the_interval_covers_and_the_verdict_follows_it() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(150):
        sides: tuple[dict, dict] = ({}, {})
        for name, n, won, lost in (("medical/m/m", 60, 0.25, 0.05), ("general/x/x", 40, 0.05, 0.1)):
            for side, values in zip(sides, right_and_wrong(generator, n, won, lost), strict=True):
                side[name] = values
        pair = (made_results(model, side) for model, side in zip("ab", sides, strict=True))
        found.append(retention(compare(*pair, resamples=10), "medical"))
    intervals = [each.interval for each in found if each.interval]
    assert 0.91 < np.mean([low <= 15 <= high for low, high in intervals]) < 0.99
    for each in found:
        low, high = each.interval or (0.0, 0.0)
        assert each.verdict == ("better" if low > 0 else "worse" if high < 0 else "no change")
    assert {each.verdict for each in found} >= {"better", "no change"}
