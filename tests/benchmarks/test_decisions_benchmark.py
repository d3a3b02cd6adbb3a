"""The benchmark of decisions: its plans fit batches and the stated time, and it records levels over seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_tiny_model

from cpt.corpus.mixture import replay_rows
from cpt.sweep.factors import parse_factors, parse_seeds

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SOURCES = ["--domain", "law=law.jsonl", "--replay", "r.jsonl", "--general", "g.jsonl"]


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import decisions

    return decisions


def test_each_share_of_replay_is_another_number_of_sequences(decisions: Any) -> None:
    for plans in decisions.PLANS.values():
        plan = plans["replay"]
        shares = [float(share) for share in plan.levels[decisions.REPLAY].split(",")]
        rows = [replay_rows(share, plan.batch) for share in shares]
        assert rows == [share * plan.batch for share in shares]
        assert len(set(rows)) == len(rows)
    full = decisions.PLANS["full"]["replay"].levels[decisions.REPLAY]
    assert full == "0,0.01,0.05,0.1,0.25,0.5"


def test_a_short_plan_takes_less_than_an_hour(decisions: Any) -> None:
    short, full = decisions.PLANS["short"], decisions.PLANS["full"]
    for studies in (("replay",), ("rewarming", "scratch")):
        assert sum(decisions.seconds(short[name], 3, 250) for name in studies) < 3_600
        assert sum(decisions.seconds(full[name], 3, 250) for name in studies) > 3_600
    assert full["rewarming"].runs(3) == 4 * 3 * 3


def test_a_dry_run_says_how_long_it_takes(decisions: Any, capsys: pytest.CaptureFixture[str]) -> None:
    decisions.main(["replay", *SOURCES, "--domain", "it=it.jsonl", "--plan", "full", "--dry-run"])
    assert capsys.readouterr().err == "36 runs, about 5.9 hours from the beginning\n"
    decisions.main(["replay", *SOURCES, "--rate", "600", "--dry-run", "--seeds", "17,18"])
    assert capsys.readouterr().err.startswith("6 runs, about 0.2 hours")


def test_sweeps_are_asked_for_with_all_levels_and_seeds(
    decisions: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of re-warming also a model with random weights, in a sweep of its own."""
    asked: list[list[str]] = []
    recorded: dict[str, Any] = {}
    monkeypatch.setattr(
        decisions, "sweep", lambda words, _runs: asked.append(words) or {"number": len(asked)}
    )
    monkeypatch.setattr(decisions, "random_base", lambda _base, folder: folder)
    monkeypatch.setattr(decisions, "base_of", lambda _options: "base")
    monkeypatch.setattr(decisions.record, "write", lambda name, facts: recorded.setdefault(name, facts))
    decisions.main(["rewarming", *SOURCES, "--runs", str(tmp_path), "--override", "seed=1", "--name", "x"])
    assert recorded == {"decision_x": {"law": {"number": 1}, "law, from scratch": {"number": 2}}}
    warm, scratch = asked
    factors = parse_factors([word for at, word in enumerate(warm) if warm[at - 1] == "--vary"], "grid")
    assert {factor.key for factor in factors} == {decisions.PEAK, decisions.WARMUP}
    assert parse_seeds(warm[warm.index("--seeds") + 1], 0) == [17, 18, 19]
    assert warm[warm.index("--name") + 1] != scratch[scratch.index("--name") + 1]
    assert f"base={tmp_path / 'random-base'}" in scratch
    assert "seed=1" in warm


def test_levels_are_means_over_seeds_with_intervals(decisions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"a": 1.0, "b": 1.2, "c": 1.1}
    monkeypatch.setattr("cpt.recipe.journal.find_run", lambda _root, name: name)
    monkeypatch.setattr(
        "cpt.recipe.reported_runs.run_facts",
        lambda run: SimpleNamespace(probes={"domain": SimpleNamespace(after=losses[run])}),
    )
    found = decisions.levels_after(list(losses), Path())["domain"]
    assert found["value"] == pytest.approx(1.1)
    assert found["high"] - found["value"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-3)
    assert found["seeds"] == (1.0, 1.2, 1.1)


def test_a_random_base_has_the_shape_and_the_tokenizer(decisions: Any, tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "model", seed=3)
    made = decisions.random_base(str(base), tmp_path / "random")
    own, other = (load_file(folder / "model.safetensors") for folder in (base, made))
    assert {key: value.shape for key, value in own.items()} == {k: v.shape for k, v in other.items()}
    assert not any(torch.equal(own[key], other[key]) for key in own if own[key].ndim > 1)
    assert (made / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    before = (made / "model.safetensors").stat()
    assert decisions.random_base(str(base), made).joinpath("model.safetensors").stat() == before
