"""Graphs of skills: from planted falls, by hand, in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from cpt.errors import DamagedFile, UsageError
from cpt.monitor.skill_graph import (
    Fall,
    SkillGraph,
    identity_graph,
    learned_graph,
    read_graph,
    write_graph,
)


def falls(**rows: tuple[float, ...]) -> dict[str, dict[str, Fall]]:
    return {i: {j: Fall(value=v) for j, v in zip(rows, row, strict=True)} for i, row in rows.items()}


def test_edges_are_falls_in_units_of_the_largest() -> None:
    """a lowers b's loss half as much as its own, c raises a's, and nothing but b lowers c's."""
    graph = learned_graph(falls(a=(0.4, 0.2, 0.0), b=(0.1, 0.3, 0.04), c=(-0.2, 0.0, -0.1)), ["r1"])
    assert graph.skills == ["a", "b", "c"]
    expected = {
        "a": {"a": 1.0, "b": 0.5},
        "b": {"a": pytest.approx(0.25), "b": pytest.approx(0.75), "c": pytest.approx(0.1)},
    }
    assert graph.edges == expected
    assert graph.edge("c", "a") == 0.0
    assert graph.targets == ["a", "b", "c"]
    assert (graph.falls["c"]["a"].value, graph.runs) == (-0.2, ["r1"])


def test_a_graph_without_falls_and_one_with_gaps_are_refused() -> None:
    with pytest.raises(UsageError, match="no loss fell"):
        learned_graph(falls(a=(0.0, -0.1), b=(-0.2, 0.0)))
    with pytest.raises(UsageError, match="not measured: the effect of b on a"):
        learned_graph({**falls(a=(0.1, 0.1), b=(0.1, 0.1)), "b": {"b": Fall(value=0.1)}})


def test_a_graph_comes_back_from_its_file(tmp_path: Path) -> None:
    graph = learned_graph({"a": {"a": Fall(value=0.3, error=0.01)}}, ["r"])
    write_graph(graph, tmp_path / "skills.json")
    assert read_graph(tmp_path / "skills.json") == graph
    by_hand = {"skills": ["a", "b"], "edges": {"a": {"b": 1.0}}}
    (tmp_path / "hand.json").write_text(json.dumps(by_hand))
    assert read_graph(tmp_path / "hand.json").targets == ["b"]
    for wrong in ({**by_hand, "skills": ["a"]}, {**by_hand, "edges": {"a": {"b": -1.0}}}):
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        with pytest.raises(DamagedFile):
            read_graph(tmp_path / "wrong.json")
    with pytest.raises(ValidationError, match="named twice"):
        SkillGraph(skills=["a", "a"], edges={})


def test_each_skill_of_the_identity_helps_itself_alone() -> None:
    graph = identity_graph(["a", "b"])
    assert [[graph.edge(i, j) for j in "ab"] for i in "ab"] == [[1, 0], [0, 1]]
