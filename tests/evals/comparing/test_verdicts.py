"""Corrected p-values by hand and in simulation; verdicts on groups of small tasks."""

from __future__ import annotations

import numpy as np
import pytest
from results_made import made_results, right_and_wrong

from evals.comparing.comparison import Comparison, compare
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


SUBJECTS = 57
OTHERS = ("arc_easy", "hellaswag", "piqa", "winogrande", "openbookqa", "lambada")


def quick(generator: np.random.Generator, fall: float, resamples: int = 2000) -> Comparison:
    """A general suite at its level quick: MMLU of 57 subjects of five items, BLiMP, six single tasks.

    Models that score 60% of MMLU disagree on 14% of its items; `fall` is what the second one loses.
    """
    sides: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})

    def add(name: str, n: int, won: float, lost: float) -> None:
        for side, values in zip(sides, right_and_wrong(generator, n, won, lost, share=0.6), strict=True):
            side[name] = values

    for subject in range(SUBJECTS):
        add(f"general/mmlu/mmlu_{subject}", 5, 0.07 - fall / 2, 0.07 + fall / 2)
    for paradigm in range(30):
        add(f"general/blimp/blimp_{paradigm}", 15, 0.05, 0.05)
    for name in OTHERS:
        add(f"general/{name}/{name}", 200, 0.05, 0.05)
    a, b = (made_results(model, side) for model, side in zip("ab", sides, strict=True))
    return compare(a, b, resamples=resamples)


def mmlu(found: Comparison) -> str:
    return next(group.verdict for group in found.groups if group.group == "mmlu")


def test_a_fall_of_mmlu_by_ten_points_is_found_although_no_subject_can_show_it() -> None:
    generator = np.random.default_rng(0)
    found = [quick(generator, 0.1) for _ in range(20)]
    assert np.mean([mmlu(each) == "worse" for each in found]) >= 0.9
    subjects = [task for each in found for task in each.tasks if task.group == "mmlu"]
    assert {task.verdict for task in subjects} == {"no change"}
    assert min(task.p for task in subjects) >= 2 * 0.5**5


def test_without_a_change_a_verdict_is_false_in_five_of_a_hundred_comparisons_at_most() -> None:
    """Each family by itself; of 40 rounds 5% and two standard errors are five."""
    generator = np.random.default_rng(1)
    found = [quick(generator, 0.0, resamples=400) for _ in range(40)]
    outside = [
        any(row.verdict != "no change" for row in each.groups)
        or any(task.verdict != "no change" for task in each.tasks if task.group not in ("mmlu", "blimp"))
        for each in found
    ]
    inside = [
        any(task.verdict != "no change" for task in each.tasks if task.group in ("mmlu", "blimp"))
        for each in found
    ]
    assert sum(outside) <= 5
    assert sum(inside) <= 5


def test_a_group_is_the_mean_of_its_tasks_by_hand() -> None:
    a = made_results("a", {"s/g/one": [0, 0, 1, 0], "s/g/two": [1, 1, 0, 0], "s/h/three": [0, 1]})
    b = made_results("b", {"s/g/one": [1, 0, 1, 0], "s/g/two": [1, 1, 0, 1], "s/h/three": [0, 0]})
    found = compare(a, b)
    (group,) = found.groups
    assert (group.suite, group.group, group.tasks) == ("s", "g", 2)
    assert (group.a, group.b) == (pytest.approx(0.375), pytest.approx(0.625))
    one, two, _ = found.tasks
    assert group.stderr == pytest.approx(np.hypot(one.stderr, two.stderr) / 2)
    assert group.p == pytest.approx(0.5, abs=0.02)  # both changes in one direction, or both in the other


def test_tasks_inside_groups_do_not_make_the_others_harder_to_find() -> None:
    changed = [0] * 7 + [1] * 7, [1] * 14
    still = [0, 1] * 7, [1, 0] * 7
    alone, among = (
        compare(
            *(
                made_results(
                    model,
                    {"s/alone/alone": changed[side], **{f"s/g/t{i}": still[side] for i in range(inside)}},
                )
                for side, model in enumerate("ab")
            )
        ).tasks[0]
        for inside in (0, 50)
    )
    assert alone.p_adjusted == pytest.approx(alone.p)
    assert among.p_adjusted == pytest.approx(2 * among.p)  # the group is one question more


def test_a_task_is_found_inside_a_group_that_has_not_changed() -> None:
    """One task gains what another loses: the group's mean tells nothing of it."""
    up, down = ([0] * 10 + [1] * 10, [1] * 20), ([1] * 20, [0] * 10 + [1] * 10)
    a, b = (
        made_results(model, {"s/g/up": up[side], "s/g/down": down[side]}) for side, model in enumerate("ab")
    )
    found = compare(a, b)
    assert found.groups[0].verdict == "no change"
    assert [task.verdict for task in found.tasks] == ["better", "worse"]
