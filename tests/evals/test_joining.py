"""Evaluations of one model's suites, joined."""

from results_made import made_results

from evals.results import LeftOut, can_combine, combine_results


def test_other_suites_stay_and_the_same_is_replaced() -> None:
    earlier = made_results("m", {"s/g/t": [1, 0], "z/g/u": [1, 1]}).model_copy(
        update={"left_out": tuple(LeftOut(task="v", suite=suite, why="no data") for suite in ("s", "z", "w"))}
    )
    newer = made_results("m", {"s/g/t2": [1, 1, 0]})
    both = combine_results(earlier, newer)
    assert [task.task for task in both.tasks] == ["u", "t2"]
    assert both.items.keys() == {"u", "t2"}
    assert both.averages["z"].score == 1
    assert both.suites == {"s": "quick", "z": "quick"}
    assert [each.suite for each in both.left_out] == ["z", "w"]


def test_a_task_counts_in_one_suite() -> None:
    both = combine_results(
        made_results("m", {"s/g/t": [1, 0], "s/h/u": [1, 1]}), made_results("m", {"z/g/t": [0, 0]})
    )
    assert [(task.suite, task.task) for task in both.tasks] == [("s", "u"), ("z", "t")]
    assert both.averages["s"].score == 1
    assert both.items["t"].values == (0, 0)


def test_what_belongs_together() -> None:
    results = made_results("m", {"s/g/t": [1, 0]})
    assert can_combine(results, results.model_copy(update={"seconds": 9.0, "model": "again"}))
    for changed in ({"fingerprint": "x"}, {"settings": {"precision": "bf16"}}, {"versions": {}}):
        assert not can_combine(results, results.model_copy(update=changed))
