"""Gates beside averages, objectives and the probe share: what each promises, with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gated
import numpy as np
import pytest
import torch
from gated import GATE, PLAIN, STEPS, Distance, Phased, distances, forgetting, lines
from tiny_runs import equal
from tiny_runs import run as run_plainly

from cpt.models.packed_model import load_model
from cpt.monitor.gates import Gate
from cpt.monitor.probe_work import ProbeWork
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.reading import Items
from cpt.monitor.schedule import AtSteps
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.weight_averaging import EmaConfig, LawaConfig
from cpt.training.objectives import SelfConstraint
from cpt.training.state import Result

MORE, END = (GATE.validate_python(each) for each in (gated.MORE, gated.END))
EMA, LAWA = EmaConfig(kind="ema", decay=0.7), LawaConfig(kind="lawa", every=2, last=3)
CONSTRAINT = SelfConstraint(kind="self-constraint", weight=0.5)


def run(
    folder: Path,
    work: Path,
    gate: Gate,
    probes: Sequence[Any] | None = None,
    rows: int = 1,
    die_at: int | None = None,
    **more: Any,
) -> tuple[dict[str, torch.Tensor], Result]:
    settings = PLAIN.with_changes(gates=(gate,), **more)
    stream = Phased([(0, rows)])
    weights, result, _ = run_plainly(
        folder, work, settings, die_at, stream, forgetting(folder) if probes is None else probes
    )
    return weights, result


@pytest.mark.parametrize("average", [EMA, LAWA], ids=["ema", "lawa"])
def test_stop_gives_the_average_at_the_best_point(tiny_model: Path, tmp_path: Path, average: Any) -> None:
    probes = forgetting(tiny_model)
    seen: list[dict[str, torch.Tensor]] = []
    read = probes[0].read

    def noting(subject: Any, share: float) -> Any:
        seen.append({n: p.detach().clone() for n, p in subject.module.model.named_parameters()})
        return read(subject, share)

    probes[0].read = noting
    weights, result = run(tiny_model, tmp_path / "run", END, probes, average=average)
    assert result.ended is not None
    best = result.ended["result_step"]
    assert 0 < best < result.steps < STEPS
    at = sorted({reading.step for reading in result.readings}).index(best)
    assert equal(weights, seen[at])  # what the probes read at the best point: the average there
    plain, _, _ = run_plainly(
        tiny_model, tmp_path / "plain", PLAIN.with_changes(steps=best), None, Phased(), []
    )
    assert not equal(weights, plain)


def test_replay_that_is_raised_holds_the_model_to_its_start(tiny_model: Path, tmp_path: Path) -> None:
    _, result = run(tiny_model, tmp_path, MORE, rows=0, objective=CONSTRAINT)
    first = result.phases[1][0]
    assert result.phases[:2] == [(0, 0), (first, 1)]
    stream = Phased(result.phases)
    for record in lines(tmp_path / "steps.jsonl"):
        batch = stream.batch(record["step"] - 1)
        targets = {
            source: sum(len(r.tokens) - len(r.piece_lengths) for r in batch if r.source == source)
            for source in ("domain", "replay")
        }
        parts = record["loss_parts"]
        assert ("kl" in parts) == (record["step"] > first)
        nats = parts["domain"] * targets["domain"] + 0.5 * parts.get("kl", 0.0) * targets["replay"]
        assert record["loss_nats"] == pytest.approx(nats / sum(targets.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("gate", "more"),
    [(END, {"average": LAWA}), (MORE, {"average": EMA, "objective": CONSTRAINT})],
    ids=["stop", "replay"],
)
def test_a_killed_run_ends_as_one_that_was_not(
    tiny_model: Path, tmp_path: Path, gate: Gate, more: Mapping[str, Any]
) -> None:
    checkpoint = Checkpoints(every=3)
    expected, whole = run(tiny_model, tmp_path / "whole", gate, checkpoint=checkpoint, **more)
    assert whole.actions
    for moment in (7, 10):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", gate, die_at=moment, checkpoint=checkpoint, **more)
    weights, result = run(tiny_model, tmp_path / "killed", gate, checkpoint=checkpoint, **more)
    assert equal(weights, expected)
    assert (result.actions, result.phases, result.ended) == (whole.actions, whole.phases, whole.ended)


class Sampled(Distance):
    """A distance of which a part can be read."""

    divisible = True  # type: ignore[misc]

    def read(self, subject: ModelView, share: float) -> Items:
        items = super().read(subject, 1.0)
        count = part(len(items.numerators), share)
        return Items(items.numerators[:count], items.denominators[:count])


def sampled(folder: Path) -> list[Any]:
    start = {name: p.detach().clone() for name, p in load_model(folder).named_parameters()}
    every = AtSteps(range(0, STEPS, 2))
    general = Sampled("general", start, lambda d: 1 + 0.1 * d, every)
    return [general, *distances(folder, *range(0, STEPS, 2), domain=lambda d: 2 - np.tanh(0.4 * d))]


def test_gates_act_on_what_the_probe_share_pays_for_and_do_so_again_after_a_kill(
    tiny_model: Path, tmp_path: Path
) -> None:
    # ten readings in full are paid for, of 13 wanted by either probe
    settings = {"probe_work": ProbeWork(0.05), "tokens": 200, "checkpoint": Checkpoints(every=5)}
    expected, whole = run(tiny_model, tmp_path / "whole", MORE, sampled(tiny_model), **settings)
    general = {reading.step: reading for reading in whole.readings if reading.probe == "general"}
    assert len({reading.items for reading in general.values()}) > 1
    acted = [action["step"] for action in whole.actions]
    assert acted
    assert set(acted) <= set(general)  # never on a reading that was left out
    for moment in (9, 13):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", MORE, sampled(tiny_model), die_at=moment, **settings)
    weights, result = run(tiny_model, tmp_path / "killed", MORE, sampled(tiny_model), **settings)
    assert equal(weights, expected)
    assert (result.actions, result.phases) == (whole.actions, whole.phases)
    values = [
        [(r.step, r.probe, r.rise, r.rise_error, r.share) for r in each.readings] for each in (whole, result)
    ]
    assert values[0] == values[1]


def test_the_result_of_a_run_that_ends_early_is_read_on_whole_samples(
    tiny_model: Path, tmp_path: Path
) -> None:
    settings = {"probe_work": ProbeWork(0.05), "tokens": 200}
    _, result = run(tiny_model, tmp_path, END, sampled(tiny_model), **settings)
    assert result.ended is not None
    at = result.ended["result_step"]
    assert 0 < at < result.ended["step"]
    shares = [r.share for r in result.readings if (r.step, r.probe) == (at, "general")]
    assert [share < 1 for share in shares] == [True, False]
