"""Predictions and advice: closed forms, the published table, bounds, and what has no answer."""

from __future__ import annotations

import numpy as np
import pytest
from planted import DOMAIN, GENERAL, SIZE, SIZED, law_of, runs_of

from cpt.errors import UsageError
from cpt.laws import Law, Row, advise, fit, predict
from cpt.laws.law import HeldOut, LawWarning

STEEP = {**GENERAL, "B": 1e-9, "C": 0.1, "epsilon": 0.1, "gamma": 0.5}
"""General loss that depends on its share alone: E + C/(r + epsilon)^gamma."""

TABLE = {0.9: 2.9052, 0.91: 2.9193, 0.92: 2.9376, 0.924: 2.9445, 0.93: 2.9644, 0.94: 2.9848, 1.0: 3.4667}
"""General loss by the share of domain text (Que et al., arXiv 2406.01375), 1.8B parameters, 10B tokens."""

BEFORE = 2.8602


def warned(found: object) -> list[str]:
    return [warning.kind for warning in found.warnings]  # type: ignore[attr-defined]


def test_the_limit_decides_in_closed_form() -> None:
    # E + C/(1 - r + epsilon)^gamma = start + limit
    law = law_of(DOMAIN, STEEP, start=0.9)
    found = advise(law, tokens=1e7, limit="general <= +0.05")
    general = (STEEP["C"] / (0.9 + 0.05 - STEEP["E"])) ** (1 / STEEP["gamma"])
    expected = 1 + STEEP["epsilon"] - general
    assert found.share.value == pytest.approx(expected, abs=1e-7)
    assert found.replay.value == pytest.approx(1 - expected, abs=1e-7)
    assert found.prediction.rises["general"].value == pytest.approx(0.05, abs=1e-7)
    by_hand = 0.6 + 6 * expected**0.5 / 1e7**0.3 + 0.5 / (expected + 0.2) ** 0.8
    assert found.prediction.losses["domain"].value == pytest.approx(by_hand)
    assert (found.basis, found.limit, warned(found)) == ("tokens", "general <= +0.05", [])


def test_the_published_share_is_advised_from_the_published_table() -> None:
    rows = [Row(run="base", parameters=1_800_000_000, tokens=0, share=0, general_loss=BEFORE)]
    for share, general in TABLE.items():
        for tokens, more in ((8 * 10**9, 0.002), (10**10, 0.0)):
            losses = {"general_loss": general + more, "domain_loss": 2.0 - 0.3 * share + more}
            rows.append(Row(run=f"{share}", parameters=1_800_000_000, tokens=tokens, share=share, **losses))
    law = fit(rows, draws=0)
    found = advise(law, tokens=1e10, limit=f"general <= +{0.03 * BEFORE:.6f}")
    assert found.share.value == pytest.approx(0.924, abs=1e-3)  # the paper's
    assert found.share.value == pytest.approx(crossing(1.03 * BEFORE), abs=1e-3)
    assert crossing(1.03 * BEFORE) == pytest.approx(0.92445, abs=1e-5)
    assert law.texts["general"].fitted.mean_error < 2e-3


def crossing(general: float) -> float:
    """The share at which the table reaches a general loss, on straight lines."""
    return float(np.interp(general, list(TABLE.values()), list(TABLE)))


def test_given_domain_tokens_the_best_share_is_inside() -> None:
    # with eta + beta = gamma = 1: b·r + C/(r + epsilon) is lowest at r = sqrt(C/b) - epsilon
    domain = {**DOMAIN, "eta": 0.7, "beta": 0.3, "C": 0.02, "gamma": 1.0, "epsilon": 0.05, "B": 6.0}
    found = advise(law_of(domain), domain_tokens=5e6)
    slope = domain["B"] / 5e6**0.3
    expected = (domain["C"] / slope) ** 0.5 - domain["epsilon"]
    assert found.share.value == pytest.approx(expected, abs=1e-6)
    assert found.prediction.tokens == pytest.approx(5e6 / expected, rel=1e-5)
    assert found.basis == "domain tokens"


def test_given_compute_the_size_is_chosen_in_closed_form() -> None:
    # A/N^a + b·(6N/C)^b2 with b = B·r^eta: N^(a+b2) = a·A/(b2·b)·(C/6)^b2
    domain = {**DOMAIN, "A": 16.0, "alpha": 0.3}
    compute = 6 * 4e8 * 1e7
    found = advise(law_of(domain), compute=compute, replay=0.25)
    b = domain["B"] * 0.75 ** domain["eta"]
    power = 0.3 * 16.0 / (0.3 * b) * (compute / 6) ** 0.3
    expected = power ** (1 / 0.6)
    assert found.prediction.parameters == pytest.approx(expected, rel=1e-3)
    assert found.prediction.tokens == pytest.approx(compute / (6 * expected), rel=1e-3)
    assert found.prediction.replay == 0.25
    free = advise(law_of(domain, GENERAL, start=0.95), compute=compute, limit="general <= +0.02")
    assert free.prediction.losses["domain"].value > found.prediction.losses["domain"].value - 0.5
    assert free.prediction.rises["general"].value <= 0.02 + 1e-9
    best = min(
        (tried.prediction.losses["domain"].value, size)
        for size in np.geomspace(1e8, 1e9, 40)
        for tried in [
            advise(
                law_of(domain, GENERAL, start=0.95),
                tokens=compute / (6 * size),
                parameters=size,
                limit="general <= +0.02",
            )
        ]
    )
    assert free.prediction.losses["domain"].value <= best[0] + 1e-6


def test_without_a_limit_that_binds_no_replay_is_advised() -> None:
    found = advise(law_of(DOMAIN, GENERAL, start=0.95), tokens=1e7, limit="general <= +5")
    assert found.replay.value == 0
    assert warned(found) == ["at_bound"]
    assert advise(law_of(DOMAIN), tokens=1e7).replay.value == 0


def test_what_lies_beyond_the_fit_is_named() -> None:
    law = law_of(DOMAIN, GENERAL, start=0.95)
    assert predict(law, tokens=1e7, replay=0.5).warnings == []
    far = predict(law, tokens=1e9, replay=0.95, parameters=10 * SIZE)
    assert [each.message.split(":")[0] for each in far.warnings] == [
        "parameters",
        "tokens",
        "share of domain text",
    ]
    found = advise(law, tokens=1e9, limit="general <= +0.2")
    assert "beyond_fit" in warned(found)


def test_a_limit_that_no_share_keeps_has_no_answer() -> None:
    law = law_of(DOMAIN, STEEP, start=0.7)
    least = STEEP["E"] + STEEP["C"] / (0.999 + 0.1) ** 0.5 - 0.7
    with pytest.raises(UsageError, match=rf"smallest predicted rise is \+{least:.4f}, at 99.9% replay"):
        advise(law, tokens=1e7, limit="general <= +0.01")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give one of tokens"),
        ({"tokens": 1e7, "compute": 1e7}, "give one of tokens"),
        ({"tokens": 0}, "0 is no amount of tokens"),
        ({"tokens": 1e7, "limit": "chat <= +0.1"}, "bounds chat"),
        ({"tokens": 1e7, "limit": "general recovers within 20%"}, "no bound on a rise"),
        ({"tokens": 1e7, "limit": "general <= +1 nats per token"}, "measured in bits per byte"),
        ({"compute": 1e15}, "fitted on one size"),
        ({"tokens": 1e7, "replay": 0.5}, "only with compute"),
        ({"tokens": 1e7, "domain": "law"}, "fitted on one domain"),
    ],
)
def test_questions_that_do_not_fit_the_law_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        advise(law_of(DOMAIN, GENERAL, start=0.95), **settings)


def test_what_the_law_does_not_know_is_asked_for() -> None:
    with pytest.raises(UsageError, match="does not predict general text"):
        advise(law_of(DOMAIN), tokens=1e7, limit="general <= +0.1")
    with pytest.raises(UsageError, match="before training is not known"):
        advise(law_of(DOMAIN, GENERAL), tokens=1e7, limit="general <= +0.1")
    sized = law_of({**DOMAIN, **SIZED})
    with pytest.raises(UsageError, match="100M to 1B parameters"):
        predict(sized, tokens=1e7, replay=0.1)
    for replay in (1.0, -0.1):
        with pytest.raises(UsageError, match="no share of replay"):
            predict(law_of(DOMAIN), tokens=1e7, replay=replay)


@pytest.fixture(scope="module")
def drawn() -> Law:
    return fit(runs_of(noise=1e-3), draws=30)


def test_advice_has_intervals_and_says_how_often_the_limit_is_kept(drawn: Law) -> None:
    found = advise(drawn, tokens=1e7, limit="general <= +0.02")
    exact = advise(law_of(DOMAIN, GENERAL, start=0.95), tokens=1e7, limit="general <= +0.02")
    assert found.share.low < found.share.value < found.share.high
    assert found.share.low < exact.share.value < found.share.high
    assert found.replay.low == pytest.approx(1 - found.share.high)
    assert 0.2 < found.held < 0.8  # it is chosen on the limit
    assert advise(drawn, tokens=1e9, limit="general <= +0.2").held is None  # beyond the fit
    for text, told in (("general", True), ("domain", False)):
        doubt = LawWarning(kind="not_falling", message="it does not fall", text=text)
        doubted = drawn.model_copy(update={"warnings": [doubt]})
        assert (advise(doubted, tokens=1e7, limit="general <= +0.02").held is None) is told
    inside = predict(drawn, tokens=1e7, replay=0.5)
    assert inside.rises["general"].value == pytest.approx(inside.losses["general"].value - 0.95)
    assert inside.losses["domain"].low < inside.losses["domain"].value < inside.losses["domain"].high


def erring(law: Law, **errors: float) -> Law:
    """Return a law with a mean error on left-out runs, by text."""
    left = {
        text: HeldOut(how="each", runs=["a"], r2=None, huber=0.0, mean_error=error)
        for text, error in errors.items()
    }
    texts = {text: found.model_copy(update={"heldout": left.get(text)}) for text, found in law.texts.items()}
    return law.model_copy(update={"texts": texts})


def test_advice_says_where_its_share_changes_a_loss_less_than_the_law_errs() -> None:
    """By hand, from the advised share to those of the fit, 0.1 and 1: the larger of both changes."""
    law = law_of(DOMAIN, STEEP, start=0.9)
    asked = {"tokens": 1e7, "limit": "general <= +0.05"}
    share = advise(law, **asked).share.value
    own = {"domain": np.array([share, 0.1, 1.0]), "general": 1 - np.array([share, 0.1, 1.0])}
    effects = {}
    for text, each in (("domain", DOMAIN), ("general", STEEP)):
        losses = each["B"] * own[text] ** each["eta"] / 1e7 ** each["beta"]
        losses += each["C"] / (own[text] + each["epsilon"]) ** each["gamma"]
        effects[text] = float(max(abs(losses[1:] - losses[0])))
    below = {text: 0.99 * effect for text, effect in effects.items()}
    above = {text: 1.01 * effect for text, effect in effects.items()}
    assert "small_effect" not in warned(advise(law, **asked))  # no run was left out
    assert "small_effect" not in warned(advise(erring(law, **below), **asked))
    for text in ("domain", "general"):
        found = advise(erring(law, **{**below, text: above[text]}), **asked)
        (warning,) = [each for each in found.warnings if each.kind == "small_effect"]
        assert warning.text == text
        assert f"differs by {effects[text]:.4f} at most" in warning.message
    free = advise(erring(law, general=1.0), tokens=1e7)  # without a limit general text decides nothing
    assert "small_effect" not in warned(free)


def test_a_text_on_which_all_fitted_shares_hardly_differ_is_warned_of_once() -> None:
    doubt = LawWarning(kind="small_effect", message="the fit's", text="domain")
    law = erring(law_of(DOMAIN, STEEP, start=0.9), domain=9.0, general=9.0)
    found = advise(law.model_copy(update={"warnings": [doubt]}), tokens=1e7, limit="general <= +0.05")
    told = [each for each in found.warnings if each.kind == "small_effect"]
    assert (told[0], told[1].text, len(told)) == (doubt, "general", 2)
