"""Search on a quadratic landscape, where the best weights and the front are known."""

import json
import math
from pathlib import Path

import pytest
from landscape import Level, Quadratic, limit, one_weight, open_weights
from merge_models import input_model, write_model

from cpt.errors import CannotMerge
from merging.plan import read_inputs
from merging.request import MergeRequest
from merging.search import Change, Goal, Trial, choose, knee, pareto_front, search, search_space
from merging.search.run import grid, propose


@pytest.fixture
def third(tmp_path: Path) -> Path:
    return write_model(tmp_path / "third", seed=3)


def run(space, candidates, goal, evaluation, log: Path, points: int = 12, seed: int = 17):
    return search(space, candidates, goal, evaluation, points=points, seed=seed, log=log)


def test_without_a_rise_the_line_search_finds_the_largest_gain(base, other, tmp_path) -> None:
    found = run(*one_weight(base, other), Goal(), Quadratic({"other": 0.63}, steep=-1e-9), tmp_path / "log")
    assert found.chosen.values == pytest.approx((0.63,), abs=0.01)
    assert found.arrived
    assert len(found.trials) < 12


def test_a_search_that_ends_on_a_bound_says_so(base, other, tmp_path) -> None:
    """The largest gain is at 2, beyond what is searched."""
    steep = Quadratic({"other": 2.0}, steep=-1e-9)
    found = run(*one_weight(base, other, bounds=(0.0, 1.5)), Goal(), steep, tmp_path / "narrow")
    assert [(each.name, each.value, each.bound) for each in found.at_bounds] == [
        ("weight of other", 1.5, "upper")
    ]
    wide = run(*one_weight(base, other, bounds=(0.0, 3.0)), Goal(), steep, tmp_path / "wide")
    assert wide.at_bounds == []


def test_the_line_search_finds_the_weight_at_which_a_limit_just_holds(base, other, tmp_path) -> None:
    found = run(*one_weight(base, other), limit(0.04), Quadratic({"other": 0.8}), tmp_path / "log")
    assert found.choice.holds
    assert found.chosen.values == pytest.approx((0.2,), abs=0.01)
    assert found.goal.rise_of(found.chosen) <= 0.04


def test_a_limit_holds_at_its_upper_bound(base, other, tmp_path) -> None:
    noisy = Quadratic({"other": 0.8}, error=0.01)
    found = run(*one_weight(base, other), limit(0.04), noisy, tmp_path / "log")
    assert found.chosen.changes["general"].upper <= 0.04
    assert found.chosen.values == pytest.approx((math.sqrt(0.04 - 1.645 * 0.01),), abs=0.01)


def test_without_a_limit_the_line_search_finds_the_knee(base, other, tmp_path) -> None:
    """Gain 2w - w² and rise w² over [0, 1]: the knee, where 2w - 2w² is largest, is at 1/2."""
    found = run(*one_weight(base, other), Goal(), Quadratic({"other": 1.0}), tmp_path / "log")
    assert found.chosen.values == pytest.approx((0.5,), abs=0.01)
    assert set(found.front) == set(found.trials)


def test_where_no_point_keeps_the_limit_the_least_broken_one_is_the_choice(base, other, tmp_path) -> None:
    space = one_weight(base, other, bounds=(0.5, 1.0))
    found = run(*space, limit(0.04), Quadratic({"other": 0.8}), tmp_path / "log")
    assert not found.choice.holds
    assert found.chosen.values == (0.5,)
    assert "no point is shown to keep the limit" in found.choice.why


def test_bayesian_steps_find_two_weights_under_a_limit(base, other, third, tmp_path) -> None:
    """Both models alike: of all points with w² + v² <= 0.18 the best is w = v = 0.3."""
    landscape = Quadratic({"other": 0.8, "third": 0.8})
    found = run(*open_weights(base, [other, third]), limit(0.18), landscape, tmp_path / "log", points=9)
    best = 2 * (2 * 0.375 - 0.375**2)
    assert found.choice.holds
    assert found.goal.gain_of(found.chosen) > 0.97 * best
    assert found.chosen.by == "bayesian"


def test_bayesian_steps_fill_the_front_without_a_limit(base, other, third, tmp_path) -> None:
    """The true front has equal weights: gain 2(2s - s²) at rise 2w², s = w / 0.8."""
    landscape = Quadratic({"other": 0.8, "third": 0.8})
    found = run(*open_weights(base, [other, third]), Goal(), landscape, tmp_path / "log", points=9)
    assert {each.by for each in found.trials} == {"grid", "bayesian"}
    assert len([each for each in found.front if each.by == "bayesian"]) >= 3
    for each in found.front:
        share = math.sqrt(found.goal.rise_of(each) / 2) / 0.8
        assert found.goal.gain_of(each) <= 2 * (2 * share - share**2) + 1e-9


@pytest.mark.parametrize("models", [1, 2])
def test_a_search_that_was_killed_goes_on_with_the_same_points(models, base, other, third, tmp_path) -> None:
    best = {"other": 0.8, "third": 0.6}
    others = [other, third][:models]
    best = {name: best[name] for name in ("other", "third")[:models]}
    whole = run(*open_weights(base, others), limit(0.1), Quadratic(best), tmp_path / "whole", points=6)
    log = tmp_path / "log"
    content = (tmp_path / "whole").read_text().splitlines(keepends=True)
    for lines in (1, 3, len(content) - 1)[models - 1 :]:  # before any trial, in the grid, after it
        log.write_text("".join(content[:lines]) + content[lines][:20])
        again = Quadratic(best)
        found = run(*open_weights(base, others), limit(0.1), again, log, points=6)
        assert [each.values for each in found.trials] == [each.values for each in whole.trials]
        assert len(again.asked) == len(whole.trials) - max(0, lines - 2)
        assert again.bases == int(lines < 2)
        assert log.read_text() == (tmp_path / "whole").read_text()
        assert found.chosen.values == whole.chosen.values


def test_the_seed_is_what_bayesian_steps_differ_by(base, other, third, tmp_path) -> None:
    best = {"other": 0.8, "third": 0.6}
    logs = []
    for number, seed in enumerate((1, 1, 2)):
        space = open_weights(base, [other, third])
        found = run(*space, Goal(), Quadratic(best), tmp_path / str(number), points=5, seed=seed)
        logs.append([each.values for each in found.trials])
    assert logs[0] == logs[1] != logs[2]


def test_the_log_of_another_search_is_not_continued(base, other, tmp_path) -> None:
    log = tmp_path / "log"
    run(*one_weight(base, other), Goal(), Quadratic({"other": 0.8}), log, points=3)
    with pytest.raises(CannotMerge, match="goal, evaluation differ"):
        run(*one_weight(base, other), limit(0.1), Quadratic({"other": 0.7}), log, points=3)
    older = log.read_text().replace('"contract": 2, ', "")
    log.write_text(older)
    with pytest.raises(CannotMerge, match="another search: contract differ"):
        run(*one_weight(base, other), Goal(), Quadratic({"other": 0.8}), log, points=3)
    log.write_text("{]\n")
    with pytest.raises(CannotMerge, match="no log of a search"):
        run(*one_weight(base, other), Goal(), Quadratic({"other": 0.8}), log, points=3)


def test_every_point_is_in_the_log_with_its_measurements(base, other, tmp_path) -> None:
    log = tmp_path / "log"
    found = run(*one_weight(base, other), Goal(), Quadratic({"other": 0.8}, error=0.1), log, points=4)
    first, second, *lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert first["search"]["models"][1]["fingerprint"] == "fingerprint of other"
    assert second["readings"]["domain"] == {"value": 0.0, "error": 0.1}
    assert [tuple(line["values"]) for line in lines] == [each.values for each in found.trials]
    change = found.trials[0].changes["general"]
    assert lines[0]["changes"]["general"] == {"change": change.value, "error": 0.1}


def test_no_search_without_points(base, other, tmp_path) -> None:
    with pytest.raises(CannotMerge, match="at least one point"):
        run(*one_weight(base, other), Goal(), Quadratic({"other": 0.8}), tmp_path / "log", points=0)


def tried(gain: float, rise: float, error: float = 0.0) -> Trial:
    changes = {"domain": Change(-gain, error), "general": Change(rise, error)}
    readings = {"domain": Level(-gain, error), "general": Level(rise, error)}
    return Trial((gain,), "grid", changes, readings)


def test_the_front_leaves_out_what_is_beaten_beyond_noise() -> None:
    points = [tried(0.1, 0.01), tried(0.2, 0.02), tried(0.15, 0.03), tried(0.3, 0.05)]
    assert [each.values[0] for each in pareto_front(points, Goal())] == [0.1, 0.2, 0.3]
    noisy = [tried(0.1, 0.01, 0.1), tried(0.2, 0.02, 0.1), tried(0.15, 0.03, 0.1)]
    assert len(pareto_front(noisy, Goal())) == 3


def test_a_rise_within_its_noise_counts_as_none_for_the_knee() -> None:
    points = [tried(0.1, 0.01, 0.001), tried(0.2, 0.03, 0.001)]
    assert knee(points, Goal()).values[0] == 0.1
    within_noise = [tried(0.1, 0.01, 0.1), tried(0.2, 0.03, 0.1)]
    assert knee(within_noise, Goal()).values[0] == 0.2


def test_where_errors_are_unknown_nothing_holds_and_the_figures_choose() -> None:
    points = [tried(0.1, 0.01, math.nan), tried(0.2, 0.03, math.nan)]
    choice = choose(points, limit(0.02))
    assert (choice.trial.values[0], choice.holds) == (0.1, False)


def test_few_documents_widen_the_bounds() -> None:
    few, exact = Change(0.01, 0.005, items=4), Change(0.01, 0.005)
    assert few.upper == pytest.approx(0.01 + 2.3534 * 0.005, abs=1e-6)
    assert few.lower == pytest.approx(0.01 - 2.3534 * 0.005, abs=1e-6)
    assert exact.upper == pytest.approx(0.01 + 1.6449 * 0.005, abs=1e-6)
    assert (few.is_worse, exact.is_worse) == (False, True)


def test_grids_hold_the_bounds_but_not_the_base_itself(base, other, third) -> None:
    line, _ = one_weight(base, other, bounds=(0.0, 1.5))
    assert grid(line, 6) == [(0.5,), (1.0,), (1.5,)]
    square, _ = open_weights(base, [other, third])
    assert grid(square, 16) == [(0, 0.5), (0, 1), (0.5, 0), (0.5, 0.5), (0.5, 1), (1, 0), (1, 0.5), (1, 1)]
    assert grid(square, 8) == [(0.5, 0.5), (0, 1), (1, 0), (1, 1)]
    assert grid(square, 6) == [(0, 1), (1, 0), (1, 1)]
    around, _ = open_weights(base, [other, third], bounds=(-1.0, 1.0))
    assert grid(around, 8) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    many, _ = open_weights(base, [other, third], groups=2, method="ties", density=(0.2, 1.0))
    points = grid(many, 12)
    assert len(set(points)) == 6
    assert all(
        dim.low <= x <= dim.high for point in points for dim, x in zip(many.dimensions, point, strict=True)
    )


def test_a_bayesian_step_to_a_merge_of_nothing_or_a_known_point_goes_elsewhere(
    base, other, third, tmp_path, monkeypatch
) -> None:
    for number, known in enumerate(((0.0, 0.0), (1.0, 1.0))):
        monkeypatch.setattr("merging.search.run._bayesian", lambda *_, known=known: known)
        space = open_weights(base, [other, third])
        landscape = Quadratic({"other": 0.8, "third": 0.8})
        found = run(*space, Goal(), landscape, tmp_path / str(number), points=6)
        assert len({each.values for each in found.trials}) == 6
        assert (0.0, 0.0) not in {each.values for each in found.trials}
        assert found.trials[-1].by == "spread"


def test_beside_a_model_of_given_weight_weight_0_is_not_the_base(base, other, third, tmp_path) -> None:
    request = MergeRequest(
        "task-arithmetic", (input_model(other, 0.4), input_model(third)), input_model(base)
    )
    candidates = read_inputs(request)
    space = search_space(request, candidates)
    assert not space.from_base
    assert grid(space, 6)[0] == (0.0,)
    landscape = Quadratic({"other": 0.8, "third": 0.8})
    found = run(space, candidates, limit(0.16 + 0.09), landscape, tmp_path / "log")
    assert found.chosen.values == pytest.approx((0.3,), abs=0.01)


def test_a_search_that_has_left_its_grid_does_not_go_back_to_it(base, other, third, tmp_path) -> None:
    space, candidates = open_weights(base, [other, third])
    landscape = Quadratic({"other": 0.8, "third": 0.8})
    found = run(space, candidates, Goal(), landscape, tmp_path / "log", points=6)
    assert found.trials[-1].by != "grid"
    assert propose(space, Goal(), found.trials[:2], 9, 17) == ((0.5, 0.5), "grid")
    _, by = propose(space, Goal(), found.trials, 9, 17)
    assert by != "grid"
