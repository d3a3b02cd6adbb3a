"""Fits: planted coefficients, intervals, runs left out, and what rows cannot determine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted import DOMAIN, GENERAL, SHARES, SIZED, law_of, run_rows, runs_of

from cpt.errors import DamagedFile, RecipeError
from cpt.laws import Law, fit, predict, read_law, write_law
from cpt.laws.law import Estimate, bootstrap_interval
from cpt.laws.rows import Row


def kinds(law: Law) -> list[str]:
    return [warning.kind for warning in law.warnings]


def test_planted_coefficients_are_found_without_noise() -> None:
    law = fit(runs_of(), draws=0)
    for text, planted in (("domain", DOMAIN), ("general", GENERAL)):
        found = law.texts[text]  # type: ignore[index]
        assert found.coefficients == pytest.approx(planted, rel=1e-2)
        assert found.fitted.r2 > 0.999999
    assert law.start[0].general_loss == pytest.approx(0.95)
    assert (law.range.share, law.range.tokens) == ((0.1, 1.0), (1e6, 2e7))


def test_noisy_rows_give_intervals_that_hold_the_planted_coefficients() -> None:
    """Within three half-widths, whatever the seeds: one in twenty is outside of a right 95% interval."""
    rows = [row for seed in (1, 2, 3) for row in noisy(seed)]
    law = fit(rows, draws=60)
    for text, planted in (("domain", DOMAIN), ("general", GENERAL)):
        found = law.texts[text]  # type: ignore[index]
        assert len(found.draws) == 60
        for name, value in planted.items():
            low, high = np.log(found.intervals[name])
            assert abs(np.log(value) - (low + high) / 2) < 1.5 * (high - low), (text, name)
        assert 0.99 < found.fitted.r2 < 1
        assert found.heldout.how == "each"
        assert set(found.heldout.runs) == set(law.runs)
        assert found.heldout.mean_error < 3e-3
    assert kinds(law) == ["one_size"]


def test_intervals_hold_planted_coefficients_as_often_as_they_say() -> None:
    """Three runs of each of four shares, whose seeds differ by 3e-3: about one interval in twenty may fail.

    A bootstrap whose fits start at the law's own coefficients holds half of them.
    """
    held = []
    for seed in range(4):
        shift, rows = np.random.default_rng(seed), list[Row]()
        for share in (0.5, 0.75, 0.9, 1.0):
            for run in range(3):
                more = {"noise": 1e-3, "seed": 100 * seed + run, "tokens": (2e6, 5e6, 1e7, 2e7)}
                factor = float(np.exp(3e-3 * shift.standard_normal()))
                for row in run_rows(f"{share:g}-{run}", share, **more):
                    own = {"domain_loss": row.domain_loss * factor} if row.tokens else {}
                    rows.append(row.model_copy(update={"general_loss": None} | own))
        intervals = fit(rows, draws=30, seed=seed).texts["domain"].intervals
        held += [low <= DOMAIN[name] <= high for name, (low, high) in intervals.items()]
    assert len(held) == 28
    assert sum(held) >= 25


def test_intervals_are_wider_than_percentiles_where_runs_are_few() -> None:
    """By hand for normal draws: ±√(n/(n - 1)) · t of their standard deviation, in place of ±1.96."""
    draws = np.random.default_rng(3).standard_normal(200_000)
    for runs, t in ((3, 4.3027), (8, 2.3646), (30, 2.0452)):
        expected = t * (runs / (runs - 1)) ** 0.5
        low, high = bootstrap_interval(draws, runs)
        assert high == pytest.approx(expected, rel=0.02 if runs > 3 else 0.2)
        assert low == pytest.approx(-expected, rel=0.02 if runs > 3 else 0.2)
    assert Estimate.of(1.0, draws, 8).high == pytest.approx(2.3646 * (8 / 7) ** 0.5, rel=0.02)
    assert Estimate.of(1.0, [], 8).high is None


def noisy(seed: int, **more: Any) -> list[Row]:
    return [
        row
        for share in SHARES
        for row in run_rows(f"s{seed}-{share:g}", share, noise=1e-3, seed=seed, **more)
    ]


def test_the_size_of_models_is_fitted_where_it_varies() -> None:
    domain, general = {**DOMAIN, **SIZED}, {**GENERAL, **SIZED}
    rows = []
    for size in (10**8, 4 * 10**8, 16 * 10**8):
        for share in (0.1, 0.3, 0.6, 0.9, 1.0):
            rows += run_rows(f"{size}-{share}", share, size=size, domain=domain, general=general)
    law = fit([row for row in rows if row.tokens], draws=0)
    assert law.texts["domain"].coefficients == pytest.approx(domain, rel=3e-2)
    assert law.has_size
    assert kinds(law) == []
    wider = predict(law, tokens=1e7, replay=0.4, parameters=8e8).losses["domain"].value
    by_hand = 0.6 + 40 / 8e8**0.3 + 6 * 0.6**0.5 / 1e7**0.3 + 0.5 / 0.8**0.8
    assert wider == pytest.approx(by_hand, abs=1e-5)


def test_one_size_is_folded_into_the_constant() -> None:
    sized = {**DOMAIN, **SIZED}
    law = fit(runs_of(domain=sized, general=GENERAL), draws=0)
    constant = DOMAIN["E"] + SIZED["A"] / 135e6 ** SIZED["alpha"]
    assert law.texts["domain"].coefficients["E"] == pytest.approx(constant, rel=1e-2)
    assert "A" not in law.texts["domain"].coefficients
    assert "one_size" in kinds(law)
    # a vocabulary that grew is no other size
    rows = runs_of((0.1, 0.5)) + [
        row.model_copy(update={"parameters": int(1.01 * row.parameters), "run": f"{row.run}+"})
        for row in runs_of((0.3, 0.9))
    ]
    assert not fit(rows, draws=0).has_size


def test_the_same_rows_and_seed_give_the_same_law() -> None:
    rows = noisy(0)
    first, again = fit(rows, draws=8), fit(list(reversed(rows)), draws=8)
    assert first == again
    other = fit(rows, draws=8, seed=1)
    assert other.texts["domain"].coefficients == first.texts["domain"].coefficients
    assert other.texts["domain"].draws != first.texts["domain"].draws


def test_intervals_come_from_runs_and_not_from_readings() -> None:
    rows = noisy(0)
    twice = [row for row in rows for _ in range(4)]
    width = [np.subtract(*fit(each, draws=12).texts["domain"].intervals["beta"]) for each in (rows, twice)]
    assert width[1] == pytest.approx(width[0], rel=0.05)  # by readings it would be half of it


def test_named_runs_are_predicted_and_not_fitted() -> None:
    strange = run_rows("strange", 0.4, domain={**DOMAIN, "E": 0.9})
    law = fit([*runs_of(), *strange], holdout=["strange"], draws=0)
    assert "strange" not in law.runs
    assert law.texts["domain"].coefficients["E"] == pytest.approx(0.6, rel=1e-2)
    heldout = law.texts["domain"].heldout
    assert (heldout.how, heldout.runs) == ("given", ["strange"])
    assert heldout.mean_error == pytest.approx(0.3, rel=1e-2)
    assert law.texts["general"].heldout.mean_error < 1e-3


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (run_rows("a", 0.5) + run_rows("b", 0.5), "share of domain text of 0.5"),
        (runs_of(tokens=[1e6]), "all readings of domain are at 1,000,000 tokens"),
        (runs_of(tokens=[1e6, 1.05e6]), "all readings of domain are at 1,000,000 tokens, or nearly so"),
        ([row for row in runs_of() if not row.tokens], "no reading after the start"),
    ],
)
def test_rows_that_vary_too_little_are_refused(rows: list[Row], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        fit(rows)


def test_runs_that_start_elsewhere_are_refused() -> None:
    other = [
        row.model_copy(update={"general_loss": 0.97}) if not row.tokens else row
        for row in run_rows("other", 0.4)
    ]
    with pytest.raises(RecipeError, match=r"general is at 0.9500 .* in share-0.1 and at 0.9700 in other"):
        fit(runs_of((0.1, 0.9)) + other)
    with pytest.raises(RecipeError, match="no run `none` to hold out"):
        fit(runs_of(), holdout=["none"])


def test_few_runs_and_few_shares_are_warned_of() -> None:
    two = fit(runs_of((0.2, 0.8)), draws=20)
    assert kinds(two) == ["few_runs", "few_shares", "one_size"]
    assert two.texts["domain"].draws == []
    assert predict(two, tokens=1e7, replay=0.5).losses["domain"].low is None
    four = fit(runs_of((0.2, 0.4, 0.8, 1.0)), draws=20)
    assert kinds(four) == ["few_runs", "one_size"]
    assert predict(four, tokens=1e7, replay=0.5).losses["domain"].low is not None


def test_losses_that_rise_where_the_law_falls_are_warned_of() -> None:
    # general text is forgotten all along: the loss rises with tokens, which the law cannot express
    rows = [
        row.model_copy(update={"general_loss": 0.95 + 0.02 * row.share + 1e-9 * row.tokens})
        for row in runs_of()
        if row.tokens
    ]
    law = fit(rows, draws=0)
    found = [each for each in law.warnings if each.kind == "not_falling"]
    assert {each.text for each in found} == {"general"}
    assert any("does not fall with more tokens" in each.message for each in found)


def test_coefficients_at_a_bound_of_their_search_are_named() -> None:
    """Forgetting that grows with the domain's share in a straight line bends as little as ε ≤ 2 allows."""
    rows = [
        row.model_copy(update={"general_loss": 0.95 + 0.02 * row.share + 1e-9 * row.tokens})
        for row in runs_of()
        if row.tokens
    ]
    law = fit(rows, draws=0)
    assert law.texts["general"].at_bounds == {"epsilon": "upper"}
    assert law.texts["general"].coefficients["epsilon"] == pytest.approx(2.0, rel=0.01)
    (warning,) = [each for each in law.warnings if each.kind == "coefficient_at_bound"]
    assert warning.text == "general"
    assert "epsilon of general stands at the upper bound of its search range, 2:" in warning.message
    assert law.texts["domain"].at_bounds == {}


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_shares_that_differ_less_than_the_law_errs_are_warned_of(spread: float) -> None:
    """Domain loss falls by 2e-3 from share 0.1 to 1; runs are up to 2% off their law, or not at all."""
    flat = {**DOMAIN, "B": 0.1, "C": 0.02, "gamma": 0.1}
    rows = [
        row.model_copy(update={"domain_loss": row.domain_loss * (1 + off) if row.tokens else 1.9})
        for share, off in zip(SHARES, spread * np.array([-1, 1, 1, -1, -1, 1, 1, -1]), strict=True)
        for row in run_rows(f"{share:g}", share, domain=flat, tokens=(1e6, 2e7))
    ]
    law = fit(rows, draws=0)
    found = [each for each in law.warnings if each.kind == "small_effect"]
    assert [each.text for each in found] == (["domain"] if spread else [])
    if spread:
        assert f"the error on left-out runs, {law.texts['domain'].heldout.mean_error:.4f}" in found[0].message
        assert "the predicted loss at 20M tokens differs by" in found[0].message


def test_a_law_is_kept_in_a_file_and_a_damaged_one_is_refused(tmp_path: Any) -> None:
    law = fit(runs_of((0.2, 0.4, 0.8, 1.0)), draws=20)
    write_law(law, tmp_path / "law.json")
    assert read_law(tmp_path / "law.json") == law
    text = (tmp_path / "law.json").read_text()
    for damage in (('"version": 1', '"version": 2'), ('"gamma"', '"gama"'), ('"domain"', '"chat"')):
        (tmp_path / "law.json").write_text(text.replace(*damage, 1))
        with pytest.raises(DamagedFile, match=r"law\.json: not of the form"):
            read_law(tmp_path / "law.json")
    with pytest.raises(DamagedFile, match="missing"):
        read_law(tmp_path / "none.json")
    assert law_of(DOMAIN).texts["domain"].coefficients == DOMAIN


def test_runs_of_other_held_out_documents_are_set_on_one_level() -> None:
    """Two seeds, of which one holds out documents that are harder by 0.1 and 0.06 bits per byte."""
    rows = [
        row.model_copy(
            update={
                "run": f"{row.run}-{seed}",
                "heldout": f"seed {seed}",
                "domain_loss": (row.domain_loss or 0) + sign * 0.05,
                "general_loss": (row.general_loss or 0) - sign * 0.03,
            }
        )
        for row in runs_of()
        for seed, sign in ((17, 1), (18, -1))
    ]
    law = fit(rows, draws=0)
    for text, planted in (("domain", DOMAIN), ("general", GENERAL)):
        assert law.texts[text].coefficients == pytest.approx(planted, rel=1e-2)  # type: ignore[index]
    assert law.start[0].domain_loss == pytest.approx(1.9)
    assert law.start[0].spread == pytest.approx(0.05)
    with pytest.raises(RecipeError, match="before training domain is at"):  # nothing says why they differ
        fit([row.model_copy(update={"heldout": ""}) for row in rows])
    unknown = [row for row in rows if row.tokens or row.heldout == "seed 17"]
    with pytest.raises(RecipeError, match="domain on held-out `seed 18` has no loss before training"):
        fit(unknown)
