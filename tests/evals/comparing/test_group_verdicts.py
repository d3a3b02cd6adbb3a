"""Verdicts on groups of small tasks: found where no task alone could be, and seldom false."""

from __future__ import annotations

import numpy as np
import pytest
from results_made import made_results, right_and_wrong

from evals.comparing.comparison import Comparison, compare

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
    """Each family by itself; of 60 rounds 5% and two standard errors are six."""
    generator = np.random.default_rng(1)
    found = [quick(generator, 0.0, resamples=400) for _ in range(60)]
    outside = [
        any(row.verdict != "no change" for row in each.groups)
        or any(task.verdict != "no change" for task in each.tasks if task.group not in ("mmlu", "blimp"))
        for each in found
    ]
    inside = [
        any(task.verdict != "no change" for task in each.tasks if task.group in ("mmlu", "blimp"))
        for each in found
    ]
    assert sum(outside) <= 6
    assert sum(inside) <= 6


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
