"""Corrected p-values: by hand, and what they promise."""

import numpy as np
import pytest

from evals.comparing.statistics import mcnemar, minimum_detectable_effect
from evals.comparing.verdicts import adjust, divisor


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
    shift = minimum_detectable_effect(n, disagreement, level=0.005, power_wanted=0.8)
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


def test_questions_that_no_data_could_answer_are_not_counted() -> None:
    """Two that could reach 0.05 / 2, and forty of five items that cannot reach 0.05 at all."""
    p, least = [0.02, 0.4] + [0.0625] * 40, [0.001, 0.001] + [0.0625] * 40
    assert divisor(least, 0.05) == 2
    assert adjust(p, "holm", least, 0.05)[0] == pytest.approx(0.04)
    assert adjust(p, "bh", least, 0.05)[0] == pytest.approx(0.04)
    assert adjust(p, "holm")[0] == pytest.approx(42 * 0.02)
    assert adjust(p, "holm", [0.0] * 42, 0.05) == adjust(p, "holm")
    assert min(adjust(p, "holm", least, 0.05)[2:]) > 0.05


def test_tarones_divisor_by_his_example() -> None:
    """The smallest k for which no more than k questions can have p <= 0.05 / k, by trying every k."""
    generator = np.random.default_rng(3)
    for _ in range(200):
        least = 2.0 * 0.5 ** generator.integers(1, 12, size=12)
        fit = [k for k in range(1, 14) if (least <= 0.05 / k).sum() <= k]
        assert divisor(least, 0.05) == min(fit)


def test_the_step_down_finds_no_less_and_bounds_any_false_finding() -> None:
    """Thirty exact tests of 4 to 12 items that changed, ten of them with a true difference."""
    generator = np.random.default_rng(4)
    alarms, more, fewer = 0, 0, 0
    for _ in range(1000):
        changed = generator.integers(4, 13, size=30)
        won = generator.binomial(changed, [0.5] * 20 + [0.97] * 10)
        p = [mcnemar(int(w), int(n - w)) for w, n in zip(won, changed, strict=True)]
        with_divisor = np.array(adjust(p, "holm", (2 * 0.5**changed).tolist(), 0.05)) <= 0.05
        plain = np.array(adjust(p, "holm")) <= 0.05
        alarms += bool(with_divisor[:20].any())
        more += int((with_divisor & ~plain).sum())
        fewer += int((plain & ~with_divisor).sum())
    assert alarms / 1000 <= 0.05
    assert fewer == 0
    assert more > 0
