"""Facts of what was watched and bounded during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.report.curves import change_points, thinned
from cpt.report.facts.probes import gather_curve, gather_tasks
from cpt.report.facts.records import TrainingRecord
from cpt.report.schema import (
    Action,
    ControlPoint,
    CurvePoint,
    Gate,
    LayerUpdates,
    MonitorCost,
    Monitoring,
    NewTokens,
    Sample,
    SourceTokens,
)

LAYER_READINGS = 48
"""Most columns of the layers' heat map."""

SOURCE_POINTS = 200
"""Longest curve of tokens by source; it is close to straight."""


def gather_watched(training: TrainingRecord | None) -> Monitoring:
    """All of it; parts that the training did not watch stay empty."""
    if training is None:
        return Monitoring()
    summary, steps = training.summary, sorted(training.steps, key=lambda row: int(row["step"]))
    return Monitoring(
        gates=[Gate(**row) for row in summary.get("gates") or ()],
        actions=[
            Action(**row, before=row.get("from"), after=row.get("to"))
            for row in sorted(training.actions, key=lambda row: int(row["step"]))
        ],
        control=gather_control(steps),
        tasks=gather_tasks(training),
        drift=gather_one(training, "drift"),
        early_end=gather_one(training, "early-end"),
        layers=gather_layers(training),
        new_tokens=gather_new_tokens(training),
        sources=gather_sources(steps),
        samples=[Sample(**row) for row in training.samples],
        cost=MonitorCost(**summary["monitor"]) if summary.get("monitor") else None,
    )


def gather_control(steps: Sequence[Mapping[str, Any]]) -> list[ControlPoint]:
    """Replay share and rate factor where they change; empty if no controller was active."""
    rows = [row for row in steps if "replay_share" in row or "rate_factor" in row]
    changed = change_points(rows, lambda row: (_replay_share(row), _rate_factor(row)))
    return [ControlPoint(**row) for row in thinned(changed, _replay_share, _rate_factor)]


def _replay_share(row: Mapping[str, Any]) -> float | None:
    return row.get("replay_share")


def _rate_factor(row: Mapping[str, Any]) -> float | None:
    return row.get("rate_factor")


def gather_one(training: TrainingRecord, kind: str) -> list[CurvePoint]:
    """Return the curve of the only probe of a kind; empty if it was not read."""
    return [point for rows in training.readings(kind).values() for point in gather_curve(rows)]


def gather_layers(training: TrainingRecord) -> LayerUpdates | None:
    """The relative update of every layer at every reading of the weights."""
    readings = [row for rows in training.readings("weights").values() for row in rows]
    readings = [row for row in readings if (row.get("detail") or {}).get("layers")]
    if not readings:
        return None
    rows = thinned(readings, lambda row: row["value"], limit=LAYER_READINGS)
    details = [row["detail"] for row in rows]
    by_layer = [{entry["layer"]: entry["update"] for entry in detail["layers"]} for detail in details]
    layers = sorted({layer for found in by_layer for layer in found})
    return LayerUpdates(
        steps=[row["step"] for row in rows],
        tokens=[row["tokens"] for row in rows],
        layers=layers,
        updates=[[found.get(layer) for found in by_layer] for layer in layers],
        total=[row["value"] for row in rows],
        **{part: [detail.get(part) for detail in details] for part in ("embeddings", "head", "bottom_top")},
    )


def gather_new_tokens(training: TrainingRecord) -> list[NewTokens]:
    """Norms of the new tokens' rows against the old ones'."""
    rows = [row for found in training.readings("new-tokens").values() for row in found]
    points = [NewTokens(step=row["step"], tokens=row["tokens"], **(row.get("detail") or {})) for row in rows]
    return thinned(points, lambda point: point.input, lambda point: point.output)


def gather_sources(steps: Sequence[Mapping[str, Any]]) -> SourceTokens | None:
    """Tokens by source over time."""
    rows = [row for row in steps if row.get("sources")]
    if not rows:
        return None
    rows = thinned(rows, lambda row: row["tokens"], limit=SOURCE_POINTS)
    names = dict.fromkeys(name for row in rows for name in row["sources"])
    return SourceTokens(
        tokens=[0, *(row["tokens"] for row in rows)],
        sources={name: [0, *(row["sources"].get(name, 0) for row in rows)] for name in names},
    )
