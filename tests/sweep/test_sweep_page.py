"""The result and the page of a sweep: sentences, tables, charts, escaping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpt.monitor.gates.gate import Limit
from cpt.sweep.factors import Factor, grid
from cpt.sweep.page import render
from cpt.sweep.result import SweepResult, result_of
from cpt.sweep.state import SweepFile, SweepRequest, Trial

FACTORS = (
    Factor(key="pretrain.schedule.peak", levels=(1e-4, 3e-4, 1e-3)),
    Factor(key="pretrain.replay", levels=(0, 0.25)),
)


def made(seeds: tuple[int, ...] = (17, 18, 19), **changes: Any) -> SweepFile:
    request = SweepRequest(
        name="sweep",
        recipe="/data/medical.yaml",
        overrides=("pretrain.tokens=2_000",),
        factors=FACTORS,
        seeds=seeds,
        **{"limit": Limit.parse("general <= +0.01"), **changes},
    )
    trials = []
    for number, values in enumerate(grid(FACTORS), start=1):
        peak, replay = values.values()
        for seed in seeds:
            noise = 0.0004 * ((seed * 7 + number * 3) % 5)
            found = {
                "domain": -0.05 - 60 * peak + 0.02 * replay + noise,
                "general": 45 * peak - 0.08 * replay + noise,
                "suite:medical": 0.01 * replay + noise,
            }
            trials.append(
                Trial(
                    number=number,
                    values=values,
                    seed=seed,
                    run=f"sweep-p{number:02d}-s{seed}",
                    state="done",
                    exit_code=0,
                    seconds=60.0,
                    changes=found,
                )
            )
    return SweepFile(request=request, recipe_sha256="0", trials=tuple(trials))


def facts(**changes: Any) -> SweepResult:
    return result_of(made(**changes), "2026-01-01T00:00:00+00:00")


def test_the_best_within_the_limit_is_recommended() -> None:
    """A peak of 1e-3 gains most and breaks the limit; 3e-4 holds it with replay alone."""
    found = facts()
    assert found.recommendation is not None
    assert found.recommendation.overrides == [
        "pretrain.tokens=2_000",
        "pretrain.schedule.peak=0.0003",
        "pretrain.replay=0.25",
    ]
    assert found.recommendation.held == "held"
    said = " ".join(found.recommendation.sentences)
    assert found.recommendation.sentences[0] == "Best: peak 0.0003, replay 0.25"
    assert "general <= +0.01 is held" in said
    assert "ahead of the next one" in said
    assert "best in 3 of 3 seeds" in said
    assert found.measures == ["domain", "general", "suite:medical"]
    assert found.front[0] == 5  # the largest gain


def test_one_seed_says_that_chance_is_not_known() -> None:
    found = facts(seeds=(17,))
    assert found.recommendation is not None
    assert "one seed has no interval" in " ".join(found.recommendation.sentences)
    assert "run it with several --seeds" in " ".join(found.recommendation.sentences)
    assert all(change.low is None for row in found.configurations for change in row.changes.values())


def test_a_limit_that_nothing_holds() -> None:
    file = made(limit=Limit.parse("general <= +0"))
    worse = [
        trial.model_copy(update={"changes": trial.changes | {"general": 1.0 + trial.number}})
        for trial in file.trials
    ]
    found = result_of(file.model_copy(update={"trials": tuple(worse)}), "2026-01-01")
    assert found.recommendation is not None
    assert (found.recommendation.number, found.recommendation.held) == (1, "broken")
    assert "No configuration holds general <= +0" in " ".join(found.recommendation.sentences)


def test_scores_are_maximised() -> None:
    found = facts(minimize="suite:medical", limit=None)
    assert found.recommendation is not None
    best = next(row for row in found.configurations if row.number == found.recommendation.number)
    most = max(row.changes["suite:medical"].value for row in found.configurations)
    assert best.changes["suite:medical"].value == most


def test_effects_and_interactions_are_in_the_facts() -> None:
    found = facts()
    peak, replay = found.effects
    assert (peak.reference, [each.level for each in peak.levels]) == (1e-4, [3e-4, 1e-3])
    assert peak.levels[0].changes["domain"].value == pytest.approx(-60 * 2e-4, abs=1e-3)
    assert replay.levels[0].changes["general"].value == pytest.approx(-0.02, abs=1e-3)
    assert {(each.a, each.b, each.measure) for each in found.interactions} == {
        ("pretrain.schedule.peak", "pretrain.replay", measure) for measure in ("domain", "general")
    }
    assert all(not each.beyond_noise for each in found.interactions)


def test_the_page_holds_everything_and_is_stable(tmp_path: Path) -> None:
    page = render(facts())
    assert page == render(facts())
    for words in (
        "cpt run /data/medical.yaml pretrain.tokens=2_000 pretrain.schedule.peak=0.0003",
        "Interactions",
        "Effects",
        "Pareto front",
    ):
        assert words in page
    assert page.count("<svg") == 1 + 4 + 2
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_texts_from_data_are_escaped() -> None:
    file = made()
    broken = file.trials[0].model_copy(
        update={"state": "failed", "message": "<script>alert(1)</script>\x1b[2J"}
    )
    odd = file.model_copy(update={"trials": (broken, *file.trials[1:]), "left_out": "<b>"})
    page = render(result_of(odd, "2026-01-01"))
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page


def test_levels_that_are_rounded_are_told() -> None:
    found = result_of(made().model_copy(update={"notes": ("0.1 trains on 0.125",)}), "2026-01-01T00:00:00")
    assert found.notes == ["0.1 trains on 0.125"]
    assert "<p>0.1 trains on 0.125</p>" in render(found)


def test_a_range_is_drawn_as_points() -> None:
    file = made()
    factors = (Factor(key="pretrain.schedule.peak", low=1e-5, high=1e-2, log=True), FACTORS[1])
    ranged = file.model_copy(update={"request": file.request.model_copy(update={"factors": factors})})
    found = result_of(ranged, "2026-01-01")
    assert found.effects[0].unit == "doubled"
    assert found.effects[0].levels[0].level is None
    page = render(found)
    assert "doubled" in page
    assert "the slope of a straight line over the whole range: for each doubling" in page


def test_nothing_has_ended() -> None:
    file = made()
    waiting = tuple(trial.model_copy(update={"state": "waiting", "changes": {}}) for trial in file.trials)
    found = result_of(file.model_copy(update={"trials": waiting}), "2026-01-01")
    assert found.recommendation is None
    assert len(found.unfinished) == 18
    assert "No run has ended yet" in render(found)


def test_only_configurations_with_the_same_seeds_are_on_the_front() -> None:
    """p01 and p02 have two seeds each, one of them in common: the others have all three."""
    found = result_of(without(made(), (1, 17), (2, 19)), "2026-01-01")
    assert {1, 2}.isdisjoint(found.front)
    assert found.front


def test_points_that_are_still_to_be_proposed_make_a_page_unfinished() -> None:
    file = made()
    asked = file.request.model_copy(update={"method": "tpe", "points": 6})
    whole = file.model_copy(update={"request": asked})
    assert result_of(whole, "2026-01-01").unproposed == 0
    early = whole.model_copy(update={"trials": tuple(t for t in file.trials if t.number <= 2)})
    found = result_of(early, "2026-01-01")
    assert found.unproposed == 4 * 3
    assert "<strong>Unfinished</strong>: 6 of 18 runs have ended" in render(found)
    stopped = early.model_copy(update={"left_out": "4 of 6 points were not proposed"})
    assert "Unfinished" not in render(result_of(stopped, "2026-01-01"))


def test_the_best_is_compared_with_every_other_configuration() -> None:
    """p04 is the best; the noise of p02 is made larger than its distance."""
    file = made()
    found = result_of(file, "2026-01-01")
    assert found.recommendation is not None
    assert found.recommendation.sentences[-1] == "It is ahead of each of the 2 others within the limit."
    noisy = tuple(
        trial.model_copy(update={"changes": trial.changes | {"domain": trial.changes["domain"] + shift}})
        if trial.number == 2 and (shift := {17: 0.3, 18: -0.3}.get(trial.seed, 0.0))
        else trial
        for trial in file.trials
    )
    open_ = result_of(file.model_copy(update={"trials": noisy}), "2026-01-01")
    assert open_.recommendation is not None
    said = "Of the 2 others within the limit, it is not shown to be ahead of p02."
    assert open_.recommendation.sentences[-1] == said
    differences = {row.number: row.difference for row in open_.configurations}
    assert differences[4] is None  # it is the best
    assert all(each is not None and each.known for n, each in differences.items() if n != 4)
    page = render(open_)
    assert said in page
    assert "From the best" in page
    means = {row.number: row.changes["domain"].value for row in open_.configurations}
    assert differences[1] is not None
    assert differences[1].value == pytest.approx(means[1] - means[4])


def test_differences_of_scores_have_their_own_direction() -> None:
    found = facts(minimize="suite:medical", limit=None)
    behind = [row.difference for row in found.configurations if row.difference]
    assert behind
    assert all(each.value <= 0 and each.low <= each.value <= each.high for each in behind)  # type: ignore[operator]


@pytest.mark.parametrize("ended", [1, 2, 7])
def test_a_page_of_the_first_runs_is_marked_as_unfinished(ended: int) -> None:
    file = made()
    later = (each.model_copy(update={"state": "waiting", "changes": {}}) for each in file.trials[ended:])
    some = file.model_copy(update={"trials": (*file.trials[:ended], *later)})
    page = render(result_of(some, "2026-01-01"))
    assert f"<strong>Unfinished</strong>: {ended} of 18 runs have ended." in page
    assert "Best: peak" in page
    assert "Unfinished" not in render(result_of(file, "2026-01-01"))


def without(file: SweepFile, *runs: tuple[int, int]) -> SweepFile:
    """Let the runs of some configurations and seeds fail."""
    trials = tuple(
        trial.model_copy(update={"state": "failed", "changes": {}, "message": "diverged"})
        if (trial.number, trial.seed) in runs
        else trial
        for trial in file.trials
    )
    return file.model_copy(update={"trials": trials})


def test_a_configuration_that_fails_in_most_seeds_is_not_recommended() -> None:
    """p06 has the largest gain without a limit, and only one seed of three."""
    file = made(limit=None)
    assert result_of(file, "2026-01-01").recommendation.number == 5  # type: ignore[union-attr]
    found = result_of(without(file, (5, 17), (5, 18)), "2026-01-01").recommendation
    assert found is not None
    assert found.number == 6
    assert "Not ranked, as some of their runs failed or have not ended: p05." in found.sentences
    all_less = without(file, *((number, 17) for number in range(1, 7)))
    fewer = result_of(all_less, "2026-01-01").recommendation
    assert fewer is not None
    assert "Only 2 of 3 seeds have a result." in fewer.sentences
    apart = without(
        file, *((n, s) for n in range(1, 5) for s in (17, 18, 19)), (5, 17), (5, 18), (6, 19), (6, 18)
    )
    nothing_common = result_of(apart, "2026-01-01")
    assert (nothing_common.recommendation, nothing_common.compared) == (None, False)
    assert "No two configurations have results for the same seeds" in render(nothing_common)


def test_the_front_of_scores_is_where_they_are_high() -> None:
    found = facts(minimize="suite:medical", limit=None)
    scores = {row.number: row.changes["suite:medical"].value for row in found.configurations}
    assert found.measures[:2] == ["suite:medical", "general"]
    assert max(scores, key=lambda number: scores[number]) in found.front
    general = facts(minimize="general", limit=None)
    assert general.measures[:2] == ["general", "domain"]
    assert len(general.front) > 1


def test_broken_limits_of_the_recipe_are_told() -> None:
    file = made()
    broken = tuple(trial.model_copy(update={"exit_code": 3}) for trial in file.trials)
    found = result_of(file.model_copy(update={"trials": broken}), "2026-01-01").recommendation
    assert found is not None
    assert "A limit of the recipe was broken, or not shown to be held, in 3 of 3 runs." in found.sentences


def test_a_configuration_with_fewer_seeds_is_not_on_the_front() -> None:
    """Its one seed that went well is no match for the means of the others."""
    file = made()
    assert 5 in result_of(file, "2026-01-01").front
    kept = [
        t.model_copy(update={"state": "failed"}) if (t.number, t.seed) == (5, 18) else t for t in file.trials
    ]
    found = result_of(file.model_copy(update={"trials": tuple(kept)}), "2026-01-01")
    assert 5 not in found.front
    assert found.front


def test_the_page_says_why_it_has_no_effects() -> None:
    file = made()
    few = file.model_copy(update={"trials": tuple(t for t in file.trials if t.number in (1, 4))})
    assert "No effects are told" in render(result_of(few, "2026-01-01"))
    assert "No effects are told" not in render(result_of(file, "2026-01-01"))
