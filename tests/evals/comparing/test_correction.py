"""Corrected p-values: by hand, and what they promise."""

import numpy as np
import pytest

from evals.comparing.correction import adjust
from evals.comparing.paired_shares import mcnemar, visible


def test_holm_by_hand() -> None:
    assert adjust([0.01, 0.04, 0.03, 0.005], "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_hochberg_by_hand() -> None:
    assert adjust([0.01, 0.04, 0.03, 0.005], "bh") == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_none_leaves_them_and_no_p_value_is_above_one() -> None:
    assert adjust([0.5, 0.9], "none") == [0.5, 0.9]
    assert adjust([0.6, 0.9], "holm") == [1.0, 1.0]
    assert adjust([], "holm") == []


def test_a_single_question_needs_no_correction() -> None:
    for correction in ("holm", "bh", "none"):
        assert adjust([0.03], correction) == pytest.approx([0.03])


def test_holm_bounds_any_false_finding_and_bh_their_share() -> None:
    """Twenty questions, ten with an answer; p-values of the others are uniform."""
    generator = np.random.default_rng(0)
    any_false, shares = [], []
    for _ in range(2000):
        p = np.concatenate([generator.random(10), generator.random(10) * 0.004])
        any_false.append(min(adjust(p.tolist(), "holm")[:10]) <= 0.05)
        found = np.array(adjust(p.tolist(), "bh")) <= 0.05
        shares.append(found[:10].sum() / max(1, found.sum()))
    assert np.mean(any_false) < 0.06
    assert np.mean(shares) < 0.055
    assert np.mean(shares) > np.mean(any_false) / 10


def test_verdicts_after_correction_find_what_is_said_to_be_visible_and_little_else() -> None:
    """Nine tasks without a difference and one with the smallest that is visible at a tenth of the level."""
    n, disagreement, rounds = 150, 0.2, 500
    shift = visible(n, disagreement, level=0.005, power_wanted=0.8)
    assert shift is not None
    generator = np.random.default_rng(1)
    found, alarms = 0, 0
    for _ in range(rounds):
        shifts = np.array([shift] + [0.0] * 9)
        chances = np.stack([(disagreement + shifts) / 2, (disagreement - shifts) / 2], axis=1)
        counts = [generator.multinomial(n, [won, lost, 1 - disagreement]) for won, lost in chances]
        adjusted = adjust([mcnemar(int(won), int(lost)) for won, lost, _ in counts], "holm")
        found += adjusted[0] <= 0.05
        alarms += min(adjusted[1:]) <= 0.05
    assert found / rounds == pytest.approx(0.8, abs=0.05)
    assert alarms / rounds <= 0.06
