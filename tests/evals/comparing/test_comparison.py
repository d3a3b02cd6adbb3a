"""Comparisons of evaluations: what is held against what, and how often a verdict is false."""

import numpy as np
import pytest
from results_made import made_results, right_and_wrong, with_items, with_task

from cpt.errors import UsageError
from evals.comparing.comparison import compare
from evals.comparing.statistics import compare_accuracy
from evals.results import LeftOut, Results

GENERATOR = np.random.default_rng(0)


def two_models(**tasks: tuple[int, float, float]) -> tuple[Results, Results]:
    """Evaluations of tasks of the suite s, each a group, by (items, share won, share lost)."""
    drawn = {
        name: right_and_wrong(np.random.default_rng([7, len(name)]), *task) for name, task in tasks.items()
    }
    return tuple(  # type: ignore[return-value]
        made_results(model, {f"s/{name}/{name}": values[side] for name, values in drawn.items()})
        for side, model in enumerate("ab")
    )


def test_a_task_by_hand() -> None:
    a = made_results("a", {"s/g/t": [0, 0, 0, 0, 0, 0, 0, 1, 1, 0]})
    b = made_results("b", {"s/g/t": [1, 1, 1, 1, 1, 1, 1, 0, 1, 0]})
    (task,) = compare(a, b).tasks
    assert (task.n, task.a, task.b) == (10, 0.2, 0.8)
    assert task.difference == pytest.approx(0.6)
    assert task.p == pytest.approx(2 * (1 + 8) / 2**8)
    assert task.stderr == pytest.approx(np.std([1] * 7 + [-1, 0, 0], ddof=1) / np.sqrt(10))
    assert task.verdict == "no change"
    assert compare(a, b, confidence=0.9).tasks[0].verdict == "better"
    assert compare(b, a, confidence=0.9).tasks[0].verdict == "worse"


def test_a_model_against_itself_has_no_change_anywhere() -> None:
    a, _ = two_models(one=(50, 0.1, 0.1), three=(80, 0.2, 0.1))
    a = with_items(a, "three", values=tuple(GENERATOR.normal(size=80).tolist()))
    found = compare(a, a)
    for row in (*found.tasks, *found.averages):
        assert (row.difference, row.verdict, row.p) == (0.0, "no change", 1.0)
    assert found.notes == ("A and B are the same model.",)


def test_a_lower_perplexity_is_better() -> None:
    a, b = two_models(t=(200, 0.3, 0.0))
    a, b = (with_task(side, "t", higher_is_better=False) for side in (a, b))
    found = compare(a, b)
    assert found.tasks[0].difference > 0
    assert found.tasks[0].verdict == "worse"
    assert found.averages == ()


def test_the_average_leaves_lower_is_better_apart() -> None:
    a, b = two_models(t=(50, 0.3, 0.0), two=(50, 0.3, 0.0))
    a, b = (with_task(side, "two", higher_is_better=False) for side in (a, b))
    found = compare(a, b)
    assert found.averages[0].difference == found.tasks[0].difference
    assert (found.averages[0].tasks, found.averages[0].excluded) == (1, ("two",))


def test_items_are_paired_by_what_they_are() -> None:
    """Another order, and items of one side alone."""
    a = with_items(made_results("a", {"s/g/t": [0, 1, 1, 0]}), "t", ids=("p", "q", "r", "s"))
    b = with_items(made_results("b", {"s/g/t": [1, 1, 0, 0, 1]}), "t", ids=("x", "q", "p", "r", "y"))
    (task,) = compare(a, b).tasks
    assert (task.n, task.only_a, task.only_b) == (3, 1, 2)
    assert (task.a, task.b) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert task.p == 1.0
    (note,) = compare(a, b).notes
    assert note == "t: items scored for one model alone are left aside, 1 of A and 2 of B."


def test_too_few_resamples_for_a_verdict_are_said() -> None:
    a, b = two_models(t=(20, 0.2, 0.1), two=(40, 0.2, 0.2))
    graded = with_items(a, "t", values=tuple(value / 2 for value in a.items["t"].values))  # type: ignore[operator]
    assert compare(a, b, resamples=30).notes == ()
    assert compare(graded, b, resamples=50).notes == ()
    (note,) = compare(graded, b, resamples=30).notes
    assert note.startswith("30 resamples give no p-value below 0.032: too few for a verdict")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("version", "2", "version of the task differs: 2 against "),
        ("data", "arc 12", "data differs: arc 12 against hub"),
        ("fewshot", 5, "examples in the prompt differs: 5 against 0"),
        ("metric", "f1", "metric differs: f1 against acc"),
    ],
)
def test_tasks_that_ran_differently_are_listed_not_compared(field: str, value: object, said: str) -> None:
    a, b = two_models(t=(20, 0.1, 0.1), two=(20, 0.1, 0.1))
    found = compare(with_task(a, "two", **{field: value}), b)
    assert [task.task for task in found.tasks] == ["t"]
    assert [(left.task, left.why) for left in found.not_compared] == [("two", said)]
    assert found.averages[0].tasks == 1


def test_tasks_of_one_side_alone_are_listed_with_the_reason() -> None:
    a, b = two_models(t=(20, 0.1, 0.1), two=(20, 0.1, 0.1))
    without = b.model_copy(
        update={"tasks": b.tasks[:1], "left_out": (LeftOut(task="two", suite="s", why="no file"),)}
    )
    assert compare(a, without).not_compared[0].why == "not evaluated for b: no file"
    assert compare(without, a).not_compared[0].why == "not evaluated for b: no file"
    foreign = with_items(b, "two", ids=tuple(f"other {i}" for i in range(20)))
    assert compare(a, foreign).not_compared[0].why == "the evaluations have no item in common"
    bare = b.model_copy(update={"items": {"t": b.items["t"]}})
    assert compare(a, bare).not_compared[0].why == "the values of its items were not kept"


def test_different_settings_and_nothing_in_common_are_refused() -> None:
    a, b = two_models(t=(20, 0.1, 0.1))
    other = b.model_copy(update={"settings": {"precision": "bf16", "chat": True}})
    with pytest.raises(UsageError, match=r"chat: None against True; precision: fp32 against bf16"):
        compare(a, other)
    with pytest.raises(UsageError, match=r"no task that can be compared\n  s t: version .* 1 against 2"):
        compare(with_task(a, "t", version="1"), with_task(b, "t", version="2"))


def test_other_versions_of_the_libraries_are_noted() -> None:
    a, b = two_models(t=(20, 0.1, 0.1))
    found = compare(a, b.model_copy(update={"versions": {"lm-eval": "0.5"}}))
    assert found.notes == ("lm-eval 0.4.13 scored A, 0.5 scored B.",)


def test_the_correction_decides_the_verdict() -> None:
    """Four tasks that could all show something; one has changed."""
    one_way, both_ways = [1] * 7 + [1] * 7, [1] * 4 + [0] * 3 + [1, 1, 1, 0, 0, 0, 0]
    tasks = {f"s/g{i}/t{i}": ([0] * 7 + [1] * 7, one_way if i == 0 else both_ways) for i in range(4)}
    a, b = (
        made_results(model, {name: values[side] for name, values in tasks.items()})
        for side, model in enumerate("ab")
    )
    verdicts = {
        correction: compare(a, b, correction=correction).tasks[0] for correction in ("none", "holm", "bh")
    }
    assert verdicts["none"].verdict == "better"
    assert verdicts["holm"].verdict == "no change"
    assert verdicts["holm"].p_adjusted == pytest.approx(4 * verdicts["holm"].p)
    assert (
        verdicts["none"].minimum_detectable_effect
        < verdicts["holm"].minimum_detectable_effect
        == verdicts["bh"].minimum_detectable_effect
    )  # type: ignore[operator]


def test_more_confidence_and_more_power_need_more() -> None:
    a, b = two_models(t=(100, 0.2, 0.1))
    plain, surer, stronger = compare(a, b), compare(a, b, confidence=0.99), compare(a, b, power=0.95)
    width = [row.interval[1] - row.interval[0] for row in (plain.tasks[0], surer.tasks[0])]  # type: ignore[index]
    assert width[0] < width[1]
    assert plain.tasks[0].minimum_detectable_effect < stronger.tasks[0].minimum_detectable_effect  # type: ignore[operator]
    assert plain.averages[0].minimum_detectable_effect < surer.averages[0].minimum_detectable_effect  # type: ignore[operator]


def test_the_seed_decides_and_a_task_does_not_depend_on_the_others() -> None:
    a, b = (
        with_items(side, "t", values=tuple(np.random.default_rng(i).normal(size=30).tolist()))
        for i, side in enumerate(two_models(t=(30, 0.2, 0.1), two=(30, 0.1, 0.1)))
    )
    alone = [side.model_copy(update={"tasks": side.tasks[:1]}) for side in (a, b)]
    options = {"resamples": 500}
    assert compare(a, b, **options) == compare(a, b, **options)
    assert compare(a, b, **options).tasks[0].interval == compare(*alone, **options).tasks[0].interval
    assert compare(a, b, seed=1, **options).tasks[0].interval != compare(a, b, **options).tasks[0].interval
    coarse, fine = (compare(a, b, resamples=n).tasks[0].p for n in (9, 999))
    assert coarse * 10 == pytest.approx(round(coarse * 10))
    assert fine * 1000 == pytest.approx(round(fine * 1000))


def test_the_evaluate_stage_agrees() -> None:
    before, after = right_and_wrong(np.random.default_rng(5), 400, 0.15, 0.05)
    found = compare(made_results("a", {"s/g/t": before}), made_results("b", {"s/g/t": after})).tasks[0]
    theirs = compare_accuracy(before, after, confidence=0.95).difference
    assert (found.difference, found.interval) == (theirs.value, (theirs.low, theirs.high))


def test_average_of_groups_by_hand() -> None:
    a = made_results("a", {"s/g/one": [0, 0, 1, 0], "s/g/two": [1, 1, 0, 0], "s/h/three": [0, 1]})
    b = made_results("b", {"s/g/one": [1, 0, 1, 0], "s/g/two": [1, 1, 0, 1], "s/h/three": [0, 0]})
    found = compare(a, b)
    (average,) = found.averages
    assert (average.groups, average.tasks) == (2, 3)
    assert average.a == pytest.approx(((0.25 + 0.5) / 2 + 0.5) / 2)
    assert average.difference == pytest.approx(((0.25 + 0.25) / 2 - 0.5) / 2)
    errors = [task.stderr for task in found.tasks]
    assert average.stderr == pytest.approx(np.sqrt((np.array([0.25, 0.25, 0.5]) ** 2) @ np.square(errors)))


def test_items_of_one_text_are_one_observation() -> None:
    """Twenty texts of ten items that flip together tell as much as twenty items, not two hundred."""
    flips = [1.0] * 5 + [0.0] * 15
    a = made_results("a", {"s/g/t": [0.0] * 200})
    b = made_results("b", {"s/g/t": np.repeat(flips, 10)})
    texts = tuple(np.repeat([f"text {i}" for i in range(20)], 10).tolist())
    tied, loose = compare(*(with_items(side, "t", clusters=texts) for side in (a, b))), compare(a, b)
    single = compare(made_results("a", {"s/g/t": [0.0] * 20}), made_results("b", {"s/g/t": flips}))
    assert tied.tasks[0].difference == loose.tasks[0].difference == 0.25
    assert tied.tasks[0].stderr == pytest.approx(single.tasks[0].stderr, rel=0.05)
    assert tied.tasks[0].p == pytest.approx(single.tasks[0].p, abs=0.02)
    assert loose.tasks[0].p < 1e-6
