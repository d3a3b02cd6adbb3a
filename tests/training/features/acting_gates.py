"""Runs with gates that act: how to run one, gates of every kind, and probes that note the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gated
import torch
from gated import GATE, PLAIN, STEPS, Phased, distances, forgetting, gate
from tiny_runs import run as run_plainly

from cpt.monitor.gates import Gate
from cpt.training.state import Result


def run(
    folder: Path, work: Path, *gates: Gate, die_at: int | None = None, probes: Any = None, **more: Any
) -> tuple[dict[str, torch.Tensor], Result, list[str]]:
    probes = forgetting(folder) if probes is None else probes
    settings = PLAIN.with_changes(gates=gates, **more)
    return run_plainly(folder, work, settings, die_at, Phased(), probes)


def summary(actions: list[dict[str, Any]]) -> list[tuple[int, str, Any, Any]]:
    return [(each["step"], each["action"], each["from"], each["to"]) for each in actions]


MORE, SLOWER, END, BACK = (
    GATE.validate_python(each) for each in (gated.MORE, gated.SLOWER, gated.END, gated.BACK)
)


FAIL = gate("general <= +0.02", "fail", after=0.5)


NARROW = gate("general <= +0.001", "stop", after=0.4)


WARN = gate("general <= +0.02", "warn")


def noted(probes: list[Any]) -> dict[int, dict[str, torch.Tensor]]:
    """Weights at each reading of the first probe, by its number."""
    kept: dict[int, dict[str, torch.Tensor]] = {}
    read = probes[0].read

    def noting(subject: Any, share: float) -> Any:
        found = {n: p.detach().clone() for n, p in subject.module.model.named_parameters()}
        kept[len(kept)] = found
        return read(subject, share)

    probes[0].read = noting
    return kept


def rises(result: Result, probe: str) -> dict[int, float]:
    return {r.step: r.rise for r in result.readings if r.probe == probe}


def skilled(folder: Path) -> list[Any]:
    """Beside `general` and `domain`, a task: it gains until the weights have moved by 0.5, then loses."""
    probes = forgetting(folder)
    skill = distances(folder, *range(0, STEPS, 2), skill=lambda d: 5 - abs(d - 0.5))
    for each in skill:
        each.kind, each.unit = "task", "p_gold"
    return [*probes, *skill]


def rare(result: Result) -> list[tuple[int, int, float]]:
    return [(r.step, r.tokens, r.value) for r in result.readings if r.probe == "rare"]
