"""A gate that stops ends the run with the best point that it allows, by the domain or by a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from acting_gates import (
    END,
    NARROW,
    noted,
    rises,
    run,
    skilled,
    summary,
)
from gated import GATE, STEPS, Phased, distances, forgetting, gate
from tiny_runs import equal

from cpt.models.packed_model import load_model
from cpt.training.features.checkpoints import Checkpoints

WIDE: dict[str, Any] = {"limit": "general <= +9", "action": "stop", "after": 0.0}


def test_stop_ends_at_the_best_point_within_the_limit(tiny_model: Path, tmp_path: Path) -> None:
    """The domain gains more and more, whatever it costs: only what is within the limit may be the result."""
    probes = forgetting(tiny_model)
    kept = noted(probes)
    weights, result, said = run(tiny_model, tmp_path, END, probes=probes)
    assert result.ended is not None
    general, domain = rises(result, "general"), rises(result, "domain")
    errors = {r.step: r.rise_error for r in result.readings if r.probe == "general"}
    within = [step for step in general if general[step] + 1.685 * errors[step] <= 0.06]  # t of 40 documents
    best = min(within, key=lambda step: domain[step])
    assert 0 < best < max(general)
    assert domain[max(domain)] < domain[best]
    assert result.ended["result_step"] == best < result.ended["step"] == result.steps < STEPS
    assert equal(weights, kept[sorted(general).index(best)])
    assert summary(result.actions)[-1] == (result.steps, "stop", None, best)
    chosen = result.actions[-1]["result"]
    assert chosen.startswith(f"the best point within the limits, step {best} (domain fell by ")
    assert result.ended["result"] == chosen
    assert any(f"learn.gates.0: the run ends, and its result is {chosen}: general rose" in t for t in said)
    trained = sum(len(row.tokens) for step in range(best) for row in Phased().batch(step))
    assert result.tokens == trained
    assert sum(entry.get("skipped_sequences", 0) for entry in result.ledger.values()) == 4 * (
        result.steps - best
    )


def test_where_no_point_is_within_the_limit_stop_returns_the_start(tiny_model: Path, tmp_path: Path) -> None:
    """The first reading after the start is beyond the limit already, however much the domain has gained."""
    probes = forgetting(tiny_model)
    kept = noted(probes)
    weights, result, said = run(tiny_model, tmp_path, NARROW, probes=probes)
    assert result.ended is not None
    assert (result.ended["result_step"], result.tokens) == (0, 0)
    assert equal(weights, kept[0])
    start = {name: p.detach() for name, p in load_model(tiny_model).named_parameters()}
    assert equal(weights, {name: start[name] for name in weights})
    assert result.ended["result"].startswith("the start: ")
    assert any("the run ends, and its result is the start: " in text for text in said)


def test_the_point_that_a_stopped_run_returns_is_within_the_limit_of_every_gate_that_acts(
    tiny_model: Path, tmp_path: Path
) -> None:
    probes = [
        *forgetting(tiny_model),
        *distances(tiny_model, *range(0, STEPS, 2), other=lambda d: 1 + 0.1 * d),
    ]
    alone = run(tiny_model, tmp_path / "alone", END, probes=probes)[1]
    narrow = gate("other <= +0.04", "lower-rate", least=0.99, factor=0.995)
    both = run(tiny_model, tmp_path / "both", END, narrow, probes=probes)[1]
    warned = run(tiny_model, tmp_path / "warned", END, gate("other <= +0.04", "warn"), probes=probes)[1]
    steps = [each.ended["result_step"] for each in (both, alone, warned) if each.ended]
    assert 0 < steps[0] < steps[1] == steps[2]
    assert rises(both, "other")[steps[0]] <= 0.04


def test_the_point_that_a_stopped_run_returns_was_read_by_every_gate_that_acts(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A reading of earlier weights shows nothing of later ones, between which the limit may be broken."""
    seldom = distances(tiny_model, 0, 4, other=lambda d: 1 + 0.1 * d)
    bound = gate("other <= +0.04", "lower-rate", least=0.99, factor=0.995)
    probes = [*forgetting(tiny_model), *seldom]
    alone = run(tiny_model, tmp_path / "alone", END, probes=probes)[1]
    both = run(tiny_model, tmp_path / "both", END, bound, probes=probes)[1]
    assert alone.ended is not None
    assert both.ended is not None
    assert both.ended["result_step"] == 4 < alone.ended["result_step"]


def test_the_result_may_be_chosen_by_a_task(tiny_model: Path, tmp_path: Path) -> None:
    """The domain gains to the end, but `skill` was best before: its best point is the result at the end."""
    probes = skilled(tiny_model)
    kept = noted(probes)
    by_domain, plain, _ = run(tiny_model, tmp_path / "domain", GATE.validate_python(WIDE), probes=probes)
    assert plain.ended is None
    kept.clear()
    chosen = GATE.validate_python(WIDE | {"by": "skill"})
    weights, result, said = run(tiny_model, tmp_path / "skill", chosen, probes=probes)
    assert not equal(by_domain, weights)
    skill = rises(result, "skill")
    best = max(skill, key=lambda step: skill[step])
    assert 0 < best < STEPS == result.steps
    assert result.ended is not None
    assert (result.ended["step"], result.ended["result_step"]) == (STEPS, best)
    assert result.ended["early"] is False
    assert equal(weights, kept[sorted(skill).index(best)])
    assert result.ended["result"].startswith(f"the best point within the limits, step {best} (skill ")
    assert any("skill has not gained more since then, at" in text for text in said)


def test_patience_ends_a_run_that_gains_no_more(tiny_model: Path, tmp_path: Path) -> None:
    chosen = GATE.validate_python(WIDE | {"by": "skill", "patience": 2})
    _, result, _ = run(tiny_model, tmp_path, chosen, probes=skilled(tiny_model))
    assert result.ended is not None
    assert result.ended["early"] is True
    assert result.steps == result.ended["result_step"] + 4 < STEPS  # it is read every two steps


def test_a_run_that_was_killed_chooses_the_same_point(tiny_model: Path, tmp_path: Path) -> None:
    chosen, probes = GATE.validate_python(WIDE | {"by": "skill"}), skilled(tiny_model)
    checkpoint = Checkpoints(every=3)
    expected, whole, _ = run(tiny_model, tmp_path / "whole", chosen, probes=probes, checkpoint=checkpoint)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", chosen, die_at=20, probes=probes, checkpoint=checkpoint)
    weights, result, _ = run(tiny_model, tmp_path / "killed", chosen, probes=probes, checkpoint=checkpoint)
    assert equal(weights, expected)
    assert result.ended == whole.ended
