"""Corrected p-values: by hand, and what they promise."""

import numpy as np
import pytest

from evals.correction import adjust


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
