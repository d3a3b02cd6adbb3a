"""Results: averages by hand, two evaluations of one model combined, and folders written and read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from results_made import made_results, with_task

from cpt.errors import UsageError
from evals.metrics import task_weights
from evals.result_folders import ITEMS, RESULTS, load_results, save_results
from evals.results import (
    Average,
    Items,
    LeftOut,
    Results,
    TaskScore,
    averages,
    can_combine,
    combine_results,
    macro_average,
)


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


def made() -> Results:
    score = TaskScore(
        task="t",
        suite="s",
        group="g",
        metric="f1",
        higher_is_better=True,
        n=2,
        score=0.1 + 0.2,
        stderr=None,
        others={"acc": 0.5},
        note="ß",
    )
    pairs = ((1.0, 0.0), (0.0, "x"))
    return Results(
        model="m",
        fingerprint="f",
        suites={"s": "smoke"},
        settings={"precision": "float32", "start_token": None, "seed": 1, "chat": False},
        versions={"torch": "2"},
        when="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        tasks=(score,),
        left_out=(LeftOut(task="u", suite="s", why="no file"),),
        averages={"s": Average(score=0.3, stderr=None, groups=1)},
        items={
            "t": Items(ids=("a", "b"), values=pairs, aggregation="f1", clusters=("c\u2028d\x85", "c")),
            "n": Items(ids=("a",), values=(0.1 + 0.7,)),
        },
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = made()
    file = save_results(results, tmp_path / "deep" / "folder")
    assert file == tmp_path / "deep" / "folder" / RESULTS
    assert load_results(file.parent) == results
    assert "items" not in json.loads(file.read_text())
    assert (file.parent / ITEMS).read_text().count("\n") == 2
    assert sorted(path.name for path in file.parent.iterdir()) == [ITEMS, RESULTS]
    save_results(results.model_copy(update={"items": {}}), file.parent)
    assert load_results(file.parent).items == {}


def test_no_results_and_damaged_ones_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no results"):
        load_results(tmp_path)
    save_results(made(), tmp_path)
    for name, content in (
        *((ITEMS, each) for each in ("{", '{"ids": []}', "[1]", "1")),
        *((RESULTS, each) for each in ('{"model": "m"}', "no json", "[1]")),
    ):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match="is damaged"):
            load_results(tmp_path)
        (tmp_path / name).write_text(kept)
    (tmp_path / ITEMS).unlink()
    with pytest.raises(UsageError, match="is damaged"):
        load_results(tmp_path)


def test_a_group_weighs_as_much_as_a_single_task() -> None:
    assert task_weights(["mmlu", "mmlu", "arc", "mmlu"]).tolist() == pytest.approx(
        [1 / 6, 1 / 6, 1 / 2, 1 / 6]
    )


def test_the_average_is_the_mean_over_groups_of_the_means_over_tasks() -> None:
    made = made_results("m", {"s/g/a": [1, 0], "s/g/b": [1, 1], "s/h/c": [0, 0, 0, 1], "t/i/d": [1, 0]})
    found = averages(made.tasks)
    assert list(found) == ["s", "t"]
    assert found["s"].score == pytest.approx((0.75 + 0.25) / 2)
    assert found["s"].groups == 2
    assert found["s"].stderr == pytest.approx(np.sqrt((0.5 / 4) ** 2 + (0.25 / 2) ** 2))
    assert found["t"].score == 0.5


def test_a_task_of_one_item_leaves_the_error_unknown() -> None:
    average = macro_average(made_results("m", {"s/g/a": [1], "s/h/b": [1, 0]}).tasks)
    assert average is not None
    assert (average.score, average.stderr) == (0.75, None)


def test_perplexities_are_not_averaged_with_shares() -> None:
    made = with_task(made_results("m", {"s/g/a": [1, 0], "s/h/b": [30, 50]}), "b", higher_is_better=False)
    average = macro_average(made.tasks)
    assert average is not None
    assert (average.score, average.groups, average.excluded) == (0.5, 1, ("b",))
    assert macro_average([made.tasks[1]]) is None
    assert averages([made.tasks[1]]) == {}


def test_the_error_is_the_spread_of_the_average() -> None:
    generator = np.random.default_rng(0)
    chances = {"s/g/a": 0.3, "s/g/b": 0.6, "s/h/c": 0.8}
    scores, errors = [], []
    for _ in range(1500):
        made = made_results("m", {name: generator.random(40) < chance for name, chance in chances.items()})
        average = macro_average(made.tasks)
        assert average is not None
        scores.append(average.score)
        errors.append(average.stderr)
    assert np.std(scores) == pytest.approx(np.mean(errors), rel=0.05)
