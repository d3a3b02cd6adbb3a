"""Scores on the items that a text shares and on the others, from made-up evaluations."""

from pathlib import Path
from typing import Any

import pytest
from results_made import made_results, with_items

from cpt.errors import UsageError
from evals.comparing.comparison import compare
from evals.contamination import (
    FILE,
    Contamination,
    dirty_by_source,
    drop_dirty_items,
    read_contamination,
    score_contamination,
)
from evals.overlap import Overlap, TaskOverlaps

RIGHT = [1, 1, 1, 0, 0, 1, 0, 0]


def overlap(verdict: Any, **found_in: str) -> Overlap:
    return Overlap(20, 13 if verdict == "dirty" else 0, 13 if verdict == "dirty" else 0, found_in, verdict)


def found(results: Any, verdicts: list[Any], task: str = "t") -> Contamination:
    items = {str(id): overlap(each, domain=f"doc {id}") for id, each in enumerate(verdicts) if each}
    return score_contamination(
        results, {task: TaskOverlaps(13, items)}, {"domain": 9}, {"other": "not there"}
    )


def test_scores_of_clean_and_dirty_items_apart() -> None:
    verdicts = ["dirty", "dirty", "clean", "clean", "clean", "dirty", "short", None]
    results = made_results("m", {"s/g/t": RIGHT, "s/g/other": RIGHT})
    contamination = found(results, verdicts)
    [task] = contamination.tasks
    assert (task.all.n, task.all.score) == (8, 0.5)
    assert (task.dirty.n, task.dirty.score) == (3, 1.0)
    assert (task.clean.n, task.clean.score) == (3, pytest.approx(1 / 3))
    assert task.clean.stderr == pytest.approx(1 / 3)
    assert (task.short.n, task.short.score, task.short.stderr) == (1, 0.0, None)
    assert task.unknown == 1
    assert task.items["5"].found_in == {"domain": "doc 5"}
    assert dirty_by_source(task) == {"domain": 3}
    assert contamination.not_searched == {"other": "not there"}


def test_a_task_of_which_no_item_is_found_is_named() -> None:
    results = made_results("m", {"s/g/t": [1, 0], "s/g/gone": [1, 0]})
    contamination = found(results, ["clean", "dirty"])
    assert [task.task for task in contamination.tasks] == ["t"]
    assert "none of the items" in contamination.not_searched["gone"]


def test_a_part_without_items_has_no_score() -> None:
    [task] = found(made_results("m", {"s/g/t": [1, 0]}), ["clean", "clean"]).tasks
    assert (task.dirty.n, task.dirty.score, task.dirty.stderr) == (0, None, None)


def test_a_comparison_without_the_dirty_items() -> None:
    """B is better on dirty items alone."""
    a = made_results("a", {"s/g/t": [0, 0, 0, 1, 0, 1], "s/h/u": [1, 0, 1]})
    b = made_results("b", {"s/g/t": [1, 1, 1, 1, 0, 1], "s/h/u": [1, 0, 1]})
    contamination = found(b, ["dirty", "dirty", "dirty", "clean", "short", None])
    clean = [drop_dirty_items(each, contamination) for each in (a, b)]
    assert [task.n for task in clean[0].tasks] == [3, 3]
    assert clean[1].items["t"].ids == ("3", "4", "5")
    assert clean[0].averages["s"].score == pytest.approx(2 / 3)
    assert compare(a, b).tasks[0].difference == 0.5
    assert compare(*clean).tasks[0].difference == 0


def test_a_task_without_clean_items_is_gone() -> None:
    results = made_results("m", {"s/g/t": [1, 0], "s/h/u": [1, 1, 0]})
    clean = drop_dirty_items(results, found(results, ["dirty", "dirty"]))
    assert [task.task for task in clean.tasks] == ["u"]
    assert clean.items.keys() == {"u"}


def test_items_keep_what_they_share() -> None:
    results = with_items(made_results("m", {"s/g/t": [1, 0, 1]}), "t", clusters=("a", "b", "b"))
    clean = drop_dirty_items(results, found(results, ["clean", "dirty", "clean"]))
    assert clean.items["t"].clusters == ("a", "b")


def test_kept_and_read_again(tmp_path: Path) -> None:
    contamination = found(made_results("m", {"s/g/t": [1, 0]}), ["dirty", "clean"])
    (tmp_path / FILE).write_text(contamination.model_dump_json())
    assert read_contamination(tmp_path) == read_contamination(tmp_path / FILE) == contamination
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(UsageError, match="no contamination"):
        read_contamination(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        read_contamination(tmp_path / "none.json")
