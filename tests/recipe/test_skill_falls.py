"""Falls of losses from finished runs on one part each, and runs that tell nothing of parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))

from law_runs import PARAMETERS, write_lines, write_run
from planted import run_rows

from cpt.errors import RecipeError
from cpt.monitor.skill_graph import learned_graph
from cpt.recipe.journal import find_run
from cpt.recipe.skill_falls import falls_of_runs


def part_run(
    root: Path, name: str, trained: str, rises: dict[str, float], *, error: float = 0.01, **more: Any
) -> str:
    """Write a run on one part, whose losses rose by so much at its end, and twice as much before it."""
    folder = write_run(root, name, run_rows("x", 1.0, size=PARAMETERS), **more)
    (training,) = folder.glob("pretrain-*/training")
    rows = [
        {"step": step, "tokens": step, "probe": f"domain.{part}", "rise": rise * scale, "rise_error": error}
        for step, scale in ((0, 0.0), (4, 2.0), (8, 1.0))
        for part, rise in rises.items()
    ]
    write_lines(training / "probes.jsonl", rows)
    parts = {f"domain.{part}": {"sequences": 9 * (part == trained)} for part in ("a", "b", "c")}
    (training / "ledger.json").write_text(json.dumps({"domain": {"sequences": 9, "parts": parts}}))
    return name


def falls(root: Path, *names: str, stage: str | None = None) -> Any:
    return falls_of_runs([find_run(root, name) for name in names], stage)


def test_a_graph_of_planted_losses(tmp_path: Path) -> None:
    """a lowers its own loss and b's, in two seeds; c is never measured, but helps b."""
    names = [
        part_run(tmp_path, "a1", "a", {"a": -0.3, "b": -0.10}),
        part_run(tmp_path, "a2", "a", {"a": -0.5, "b": -0.14}),
        part_run(tmp_path, "b", "b", {"a": 0.2, "b": -0.2}),
        part_run(tmp_path, "c", "c", {"a": 0.0, "b": -0.04}),
    ]
    found = falls(tmp_path, *names)
    assert {i: {j: each.value for j, each in row.items()} for i, row in found.items()} == {
        "a": {"a": pytest.approx(0.4), "b": pytest.approx(0.12)},
        "b": {"a": pytest.approx(-0.2), "b": pytest.approx(0.2)},
        "c": {"a": 0.0, "b": pytest.approx(0.04)},
    }
    assert found["b"]["a"].error == pytest.approx(0.01)
    assert found["a"]["b"].error == pytest.approx((0.01**2 + 0.02**2) ** 0.5)  # sd 0.04 / √2 / √2
    graph = learned_graph(found)
    assert graph.skills == ["a", "b", "c"]
    assert graph.targets == ["a", "b"]
    assert graph.edges == {
        "a": {"a": 1.0, "b": pytest.approx(0.3)},
        "b": {"b": pytest.approx(0.5)},
        "c": {"b": pytest.approx(0.1)},
    }


def test_intervals_over_seeds_are_student_s(tmp_path: Path) -> None:
    """Three seeds: t of two degrees of freedom, 4.30 and not 1.96, makes this fall one that may be none."""
    own = (0.03, 0.05, 0.10)
    names = [part_run(tmp_path, f"a{at}", "a", {"a": -fall}, error=0.0) for at, fall in enumerate(own)]
    for part in "bc":
        part_run(tmp_path, part, part, {"a": -0.05}, error=0.01)
    fall = falls(tmp_path, *names, "b", "c")["a"]["a"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(own), scale=stats.sem(own))
    assert (fall.value - fall.margin, fall.value + fall.margin) == pytest.approx((low, high))
    assert fall.error == pytest.approx(stats.sem(own))
    assert fall.value > 1.96 * fall.error
    assert fall.is_unsure
    single = falls(tmp_path, names[0], "b", "c")["b"]["a"]
    assert (single.margin, single.is_unsure) == (pytest.approx(1.96 * 0.01), False)  # documents alone
    more = [part_run(tmp_path, f"d{at}", "a", {"a": -fall}, error=0.02) for at, fall in enumerate(own)]
    wider = falls(tmp_path, *more, "b", "c")["a"]["a"].margin
    assert wider == pytest.approx(np.hypot(high - np.mean(own), 1.96 * 0.02))


def test_a_run_that_a_gate_ended_is_read_at_its_result(tmp_path: Path) -> None:
    for part in "bc":
        part_run(tmp_path, part, part, {"a": 0.0, "b": 0.0})
    part_run(tmp_path, "a", "a", {"a": -0.3, "b": -0.1}, ended=4)
    assert falls(tmp_path, "a", "b", "c")["a"]["a"].value == pytest.approx(0.6)


def test_runs_that_tell_nothing_of_parts_are_all_named(tmp_path: Path) -> None:
    write_run(tmp_path, "whole", run_rows("x", 1.0, size=PARAMETERS))
    part_run(tmp_path, "blind", "a", {})
    part_run(tmp_path, "both", "d", {"a": -0.1})
    with pytest.raises(RecipeError) as caught:
        falls(tmp_path, "whole", "blind", "both")
    assert {problem.key: problem.message for problem in caught.value.problems} == {
        "whole": "it was trained on a domain without parts, not on one part",
        "blind": "it did not measure the parts",
        "both": "it was trained on a domain without parts, not on one part",
    }
    part_run(tmp_path, "a", "a", {"a": -0.1, "b": -0.1})
    with pytest.raises(RecipeError, match="no run was trained on b, c alone"):
        falls(tmp_path, "a")
