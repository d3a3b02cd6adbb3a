"""Online mixing: the formula by hand, caps, and runs whose weights move, also when they are killed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gated import GATE, distances, lines
from tiny_runs import SETTINGS, equal
from tiny_runs import run as run_plainly
from tiny_training import Row

from cpt.corpus.mixture import MixturePhase
from cpt.corpus.stream import TrainingStream
from cpt.monitor.schedule import Every
from cpt.monitor.skill_graph import SkillGraph, identity_graph, write_graph
from cpt.training.feature import RunFacts
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.skill_it import SkillIt, SkillItConfig, capped, updated_shares
from cpt.training.schedules import Constant
from cpt.training.state import Result

STEPS, BATCH = 17, 6

GRAPH = SkillGraph(skills=["a", "b", "c"], edges={"a": {"a": 1.0, "b": 0.5}, "c": {"b": 0.25}})


# the formula


def test_the_update_by_hand() -> None:
    """p_i ∝ p_i^init · exp(η · Σ_j A_ij · Σ_τ L_j(τ)), on two readings."""
    window = [{"a": 1.0, "b": 2.0}, {"a": 0.5, "b": 1.0}]
    found = updated_shares({"a": 1, "b": 2, "c": 1}, GRAPH, window, eta=0.4)
    powers = {
        "a": math.exp(0.4 * (1.0 * 1.5 + 0.5 * 3.0)),
        "b": 2.0,
        "c": math.exp(0.4 * 0.25 * 3.0),
    }
    assert found == pytest.approx({name: power / sum(powers.values()) for name, power in powers.items()})


def test_without_edges_weights_stay_and_parts_without_weight_stay_out() -> None:
    empty = SkillGraph(skills=["a", "b"], edges={})
    assert updated_shares({"a": 3, "b": 1}, empty, [{}], 5.0) == {"a": 0.75, "b": 0.25}
    found = updated_shares({"a": 1, "b": 0, "c": 1}, GRAPH, [{"a": 800.0, "b": 900.0}], 3.0)
    assert found == {"a": 1.0, "b": 0.0, "c": 0.0}  # no overflow


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_a_distribution_and_follow_the_losses(seed: int) -> None:
    chance = random.Random(seed)
    initial = {name: chance.uniform(0.1, 5) for name in "abc"}
    window = [{name: chance.uniform(0.2, 3) for name in "abc"} for _ in range(3)]
    found = updated_shares(initial, identity_graph("abc"), window, 0.5)
    assert math.fsum(found.values()) == pytest.approx(1)
    ratio = {name: found[name] / initial[name] for name in "abc"}
    assert sorted(ratio, key=ratio.__getitem__) == sorted(
        "abc", key=lambda name: sum(losses[name] for losses in window)
    )


@pytest.mark.parametrize("seed", range(20))
def test_caps_hold_and_the_rest_keeps_its_proportions(seed: int) -> None:
    chance = random.Random(seed)
    raw = {name: chance.choice([0.0, chance.random()]) for name in "abcd"} | {"e": 1.0}
    shares = {name: share / sum(raw.values()) for name, share in raw.items()}
    caps = {name: chance.uniform(0.0, 0.6) for name in "abcde"}
    found = capped(shares, caps)
    if found is None:
        assert sum(caps[name] for name, share in shares.items() if share) <= 1
        return
    assert math.fsum(found.values()) == pytest.approx(1)
    assert all(found[name] <= caps[name] + 1e-12 for name in found)
    assert all((found[name] > 0) <= (shares[name] > 0) for name in found)
    loose = [name for name in found if shares[name] and found[name] < caps[name] - 1e-9]
    assert len({round(found[name] / shares[name], 9) for name in loose}) <= 1
    assert all(found[name] >= shares[name] - 1e-12 for name in loose)


def test_settings_are_described_and_useless_ones_named() -> None:
    feature = SkillIt(SkillItConfig(every=50))
    assert "every 50 steps (Skill-It, η = 0.5)" in feature.describe()
    facts = RunFacts(SETTINGS.config, steps=50)
    (problem,) = feature.problems(facts)
    assert (problem.key, "never follow" in problem.message) == ("skill_it.every", True)
    assert feature.problems(RunFacts(SETTINGS.config, steps=51)) == []


# runs


class Part:
    """A part of random documents, as a stream reads it."""

    has_weights = False

    def __init__(self, name: str, sequences: int = 40) -> None:
        self.name, self.parts = name, {name: sequences}
        random = np.random.default_rng(len(name) + ord(name[-1]))
        self._rows = [random.integers(2, 280, size=12).astype(np.uint32) for _ in range(sequences)]
        self.sums = self.count(np.arange(sequences))

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, numbers: np.ndarray) -> list[Row]:
        more = {"piece_lengths": np.array([12]), "weights": None, "plain": None}
        return [Row(source=self.name, tokens=self._rows[n].copy(), **more) for n in numbers.tolist()]

    def count(self, numbers: np.ndarray) -> np.ndarray:
        return np.array([[len(numbers), 12 * len(numbers), 0]])


def stream(weights: Sequence[int] = (1, 1, 1), replay_rows: int = 0) -> TrainingStream:
    names = [f"domain.{name}" for name in "abc"]
    sources: Any = {name: Part(name) for name in [*names, "replay"]}
    phase = MixturePhase(1.0, dict(zip(names, weights, strict=True)), replay_rows)
    return TrainingStream(sources, 0, BATCH, 5, mixture=[phase]).for_steps(STEPS)


def probes(folder: Path, every: int = 4) -> list[Any]:
    """The loss of a falls with the weights' distance from their start; b's rises, c's is low."""
    curves = {"domain.a": lambda d: 2.0 - d, "domain.b": lambda d: 1.5 + d / 10, "domain.c": lambda d: 0.5}
    found = distances(folder, **curves)
    for probe in found:
        probe.when = Every(every)
    return found


def run(
    folder: Path,
    work: Path,
    *,
    graph: SkillGraph | None = GRAPH,
    every: int = 4,
    die_at: int | None = None,
    mixed: TrainingStream | None = None,
    **more: Any,
) -> tuple[dict[str, torch.Tensor], Result, list[str]]:
    settings = {name: more.pop(name) for name in ("eta", "window") if name in more}
    if graph is not None:
        work.parent.mkdir(parents=True, exist_ok=True)
        write_graph(graph, work.parent / "skills.json")
        settings["graph"] = str(work.parent / "skills.json")
    chosen = SETTINGS.with_changes(
        steps=STEPS,
        schedule=Constant(peak=3e-3, warmup=0),
        skill_it=SkillItConfig(every=every, **settings),
        **{"checkpoint": Checkpoints(every=3), **more},
    )
    return run_plainly(folder, work, chosen, die_at, mixed or stream(), probes(folder, every))


def test_a_run_follows_the_formula_and_tells_it(tiny_model: Path, tmp_path: Path) -> None:
    _, result, said = run(tiny_model, tmp_path / "run", eta=0.4, window=2)
    updates = result.mixture
    assert [each["step"] for each in updates] == [0, 4, 8, 12, 16]
    assert updates == lines(tmp_path / "run" / "mixture.jsonl")
    read = {(r.step, r.probe): r.value for r in result.readings}
    for number, update in enumerate(updates):
        assert update["losses"] == pytest.approx({j: read[update["step"], f"domain.{j}"] for j in "ab"})
        window = [each["losses"] for each in updates[max(0, number - 1) : number + 1]]
        expected = updated_shares(dict.fromkeys("abc", 1), GRAPH, window, 0.4)
        assert update["shares"] == pytest.approx(expected, abs=1.1e-3)
        assert sum(update["shares"].values()) == pytest.approx(1)
    ledger = result.ledger
    assert sum(row["sequences"] for row in ledger.values()) == STEPS * BATCH
    expected = stream().with_updates([(each["step"], each["weights"]) for each in updates]).ledger(STEPS)
    assert ledger == expected
    assert "step 4: mixture: a " in "\n".join(said)


def test_a_skill_that_helps_one_with_a_high_loss_gets_its_rows(tiny_model: Path, tmp_path: Path) -> None:
    """a helps b, whose loss stays high; c helps nobody."""
    helping = SkillGraph(skills=["a", "b", "c"], edges={"a": {"b": 1.0}})
    _, result, _ = run(tiny_model, tmp_path / "run", graph=helping, eta=2.0)
    shares = [each["shares"]["a"] for each in result.mixture]
    assert shares[0] > 0.8
    assert shares == sorted(shares)
    assert result.ledger["domain.a"]["sequences"] > 0.9 * STEPS * BATCH
    _, alone, _ = run(tiny_model, tmp_path / "alone", graph=None)
    for update in alone.mixture[3:]:  # without a graph each follows its own loss
        assert update["losses"]["a"] < update["losses"]["c"] < update["losses"]["b"]
        assert update["shares"]["a"] < update["shares"]["c"] < update["shares"]["b"]


@pytest.mark.parametrize(("mode", "moments"), [("blocking", range(1, STEPS)), ("async", (2, 9, 16))])
def test_a_run_killed_after_every_step_reads_what_it_would_have_read(
    tiny_model: Path, tmp_path: Path, mode: str, moments: Sequence[int]
) -> None:
    checkpoint = Checkpoints.model_validate({"every": 3, "mode": mode})
    expected, whole, _ = run(tiny_model, tmp_path / "whole" / "run", checkpoint=checkpoint)
    fixed, _, _ = run_plainly(
        tiny_model, tmp_path / "fixed", SETTINGS.with_changes(steps=STEPS), None, stream(), []
    )
    assert not equal(expected, fixed)
    killed = tmp_path / "killed" / "run"
    for moment in moments:
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, killed, checkpoint=checkpoint, die_at=moment)
    weights, result, _ = run(tiny_model, killed, checkpoint=checkpoint)
    assert equal(weights, expected)
    assert result.mixture == whole.mixture == lines(killed / "mixture.jsonl")
    assert result.ledger == whole.ledger


def test_no_part_is_read_more_often_than_it_may_be(tiny_model: Path, tmp_path: Path) -> None:
    most = {"domain.a": 50, "domain.b": 40, "domain.c": 13}  # 103 for 102 rows
    helping = SkillGraph(skills=["a", "b", "c"], edges={"a": {"b": 1.0}})
    _, free, _ = run(tiny_model, tmp_path / "free", graph=helping, eta=2.0)
    assert free.ledger["domain.a"]["sequences"] > 50
    _, result, _ = run(tiny_model, tmp_path / "bound", graph=helping, eta=2.0, most_sequences=most)
    assert all(result.ledger[name]["sequences"] <= count for name, count in most.items())
    assert result.mixture[0]["shares"]["a"] == free.mixture[0]["shares"]["a"], "the bound is not near"


def test_gates_and_updates_change_one_stream(tiny_model: Path, tmp_path: Path) -> None:
    gate = GATE.validate_python({"limit": "domain.b <= +0.001", "action": "raise-replay", "most": 0.5})
    mixed = stream(replay_rows=1)
    _, result, _ = run(tiny_model, tmp_path / "run", gates=(gate,), mixed=mixed)
    assert result.phases[0] == (0, 1)
    assert max(rows for _, rows in result.phases) == 3
    updates = [(each["step"], each["weights"]) for each in result.mixture]
    assert result.ledger == mixed.with_updates(updates).with_phases(result.phases).ledger(STEPS)


def test_a_loss_that_is_not_finite_leaves_the_mixture(tiny_model: Path, tmp_path: Path) -> None:
    broken: Mapping[str, Any] = {"domain.a": lambda d: math.nan if d > 0 else 1.0, "domain.b": lambda d: 1.0}
    found = distances(tiny_model, **broken)
    for probe in found:
        probe.when = Every(4)
    write_graph(GRAPH, tmp_path / "skills.json")
    config = SkillItConfig(every=4, graph=str(tmp_path / "skills.json"))
    chosen = SETTINGS.with_changes(steps=STEPS, skill_it=config)
    _, result, said = run_plainly(tiny_model, tmp_path / "run", chosen, None, stream(), found)
    assert [each["step"] for each in result.mixture] == [0]
    assert any("a loss is not finite, so the mixture stays" in text for text in said)
