"""Facts of the training's own curves: loss, rate, phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.report.curves import smoothed, thinned
from cpt.report.facts.records import RunRecord
from cpt.report.schema import EarlyEnd, SchedulePhase, Training, TrainingStep

SMOOTHING_SPAN = 0.1
"""Span of the smoothed loss, as a share of all steps."""


def gather_training(run: RunRecord) -> Training | None:
    """The training curves with the loss smoothed over a tenth of the steps."""
    if run.training is None:
        return None
    steps = sorted(run.training.steps, key=lambda row: int(row["step"]))
    losses = [row.get("loss_nats") for row in steps]
    smooth = smoothed(losses, span=SMOOTHING_SPAN * len(losses))
    rows = thinned(
        list(zip(steps, smooth, strict=True)),
        lambda row: row[0].get("loss_nats"),
        lambda row: row[0].get("lr"),
    )
    summary, last = run.training.summary, steps[-1] if steps else {"step": 0, "tokens": 0}
    return Training(
        stage=run.training.stage,
        trainings=sum(stage.kind == "pretrain" for stage in run.stages),
        steps=summary.get("steps", last["step"]),
        tokens=summary.get("tokens", last["tokens"]),
        tokens_per_second=summary.get("tokens_per_second"),
        points=[TrainingStep(**{**row, "smoothed": average}) for row, average in rows],
        ended=EarlyEnd(**summary["ended"]) if summary.get("ended") else None,
        phases=gather_phases(summary.get("schedule") or {}, steps),
    )


def gather_phases(schedule: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> list[SchedulePhase]:
    """Where the schedule's phases begin, in tokens."""
    in_tokens = schedule.get("unit") == "tokens"
    firsts = {phase["first"] for phase in schedule.get("phases", ())}
    tokens = {row["step"]: row["tokens"] for row in steps if row["step"] in firsts}
    return [
        SchedulePhase(
            name=phase["name"], tokens=phase["first"] if in_tokens else tokens.get(phase["first"], 0)
        )
        for phase in schedule.get("phases", ())
    ]
