"""Gather the facts of probes, gates and the gate controller from the records of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.formatting import Z_95
from cpt.report.curves import change_points, thinned
from cpt.report.facts.records import StageRecord, TrainingRecord
from cpt.report.schema import (
    Action,
    Continual,
    ControlPoint,
    CurvePoint,
    Gate,
    Interval,
    LayerUpdates,
    MonitorCost,
    Monitoring,
    NewTokens,
    Probe,
    ProbeTraining,
    Sample,
    SourceTokens,
    TaskCurve,
)

FIRST_PROBES = ("domain", "general")

GAP_FIGURES = (
    "depth",
    "depth_error",
    "area",
    "trough_step",
    "trough_tokens",
    "recovery_step",
    "recovery_tokens",
)


def gather_texts(
    training: TrainingRecord | None, scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Probe]:
    """Return all held-out texts by name, domain and general first."""
    readings = training.readings("text") if training else {}
    stability = _stability(training, kind="text")
    found = [*stability, *readings, *scores]
    names = [name for name in FIRST_PROBES if name in found]
    names += [name for name in dict.fromkeys(found) if name not in FIRST_PROBES]
    samples = training.summary.get("samples", {}) if training else {}
    return {
        name: gather_text(
            stability.get(name, {}), gather_curve(readings.get(name, ())), scores.get(name), samples.get(name)
        )
        for name in names
    }


def gather_text(
    stability: Mapping[str, Any],
    curve: list[CurvePoint],
    score: Mapping[str, Any] | None,
    sample: str | None = None,
) -> Probe:
    """Return one text: levels of evaluate if it measured the text, stability gap of the training curve."""
    followed = gather_levels(stability, curve)
    shared: dict[str, Any] = {**gather_gap(stability), "curve": curve, "training": followed, "sample": sample}
    if score is None:
        before, end, permanent = (
            (followed.before, followed.end, followed.permanent) if followed else (None, None, None)
        )
        error = followed.permanent_error if followed else None
        return Probe(
            before=before, after=end, permanent=permanent, difference=interval(permanent, error), **shared
        )
    levels = {key: Interval(**score[key]) for key in ("before", "after", "difference")}
    return Probe(
        before=levels["before"].value,
        after=levels["after"].value,
        permanent=levels["after"].value - levels["before"].value,
        measured_by="evaluate",
        before_interval=levels["before"],
        after_interval=levels["after"],
        difference=levels["difference"],
        documents=score.get("documents"),
        bytes=score.get("bytes"),
        **shared,
    )


def gather_tasks(training: TrainingRecord) -> dict[str, TaskCurve]:
    """Return the curves of tasks during training, with De Lange's figures if they were computed."""
    stability = training.summary.get("stability", {})
    continual = training.summary.get("continual", {})
    tasks = {}
    for name, rows in training.readings("task").items():
        curve = gather_curve(rows)
        followed = gather_levels(stability.get(name, {}), curve, worse=-1)
        tasks[name] = TaskCurve(
            **gather_gap(stability.get(name, {})),
            curve=curve,
            unit=rows[0].get("unit", "accuracy"),
            continual=Continual(**continual[name]) if name in continual else None,
            **(followed.model_dump() if followed else {}),
        )
    return tasks


def gather_curve(rows: Sequence[Mapping[str, Any]]) -> list[CurvePoint]:
    """Return the readings of a probe in order, thinned so that peaks stay."""
    return [CurvePoint(**row) for row in thinned(rows, lambda row: row["value"])]


def gather_gap(stability: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the stability gap alone."""
    return {key: stability.get(key) for key in (*GAP_FIGURES, "gap", "forgotten")}


def gather_levels(
    stability: Mapping[str, Any], curve: Sequence[CurvePoint], worse: int = 1
) -> ProbeTraining | None:
    """Return the first and last level of a curve, and the change between them on the same items.

    Args:
        stability: Figures of the stability gap; a positive change is a deterioration.
        curve: Readings of the probe.
        worse: +1 if higher values of the probe are worse, -1 if lower values are.
    """
    if not curve and not stability:
        return None
    first, last = (curve[0], curve[-1]) if curve else (None, None)
    before = stability.get("before", first.value if first else None)
    end = stability.get("end", last.value if last else None)
    paired = last.rise if last else None
    levels = None if before is None or end is None else end - before
    return ProbeTraining(
        before=before,
        end=end,
        permanent=worse * stability["permanent"]
        if "permanent" in stability
        else (levels if paired is None else paired),
        permanent_error=stability.get("permanent_error", last.rise_error if last else None),
    )


def interval(value: float | None, error: float | None) -> Interval | None:
    """Return a change with its 95% interval, if its standard error is known."""
    if value is None:
        return None
    if error is None:
        return Interval(value=value)
    return Interval(value=value, low=value - Z_95 * error, high=value + Z_95 * error)


def _stability(training: TrainingRecord | None, kind: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the figures of the stability gap of probes of one kind."""
    if training is None:
        return {}
    others = {str(row["probe"]) for row in training.probes if row["kind"] != kind}
    figures: Mapping[str, Mapping[str, Any]] = training.summary.get("stability", {})
    return {name: found for name, found in figures.items() if name not in others}


LAYER_READINGS = 48
"""Maximum number of columns of the layers' heat map."""

SOURCE_POINTS = 200
"""Maximum length of the curve of tokens by source, which is almost straight."""


def gather_watched(
    training: TrainingRecord | None,
    earlier: Sequence[TrainingRecord] = (),
    stages: Sequence[StageRecord] = (),
) -> Monitoring:
    """Return readings of the newest training, and limits and actions of all stages.

    Args:
        training: Newest training; None without one.
        earlier: Trainings before it.
        stages: Finished stages, whose merges have limits of their own.
    """
    trainings = [*earlier, *([training] if training else [])]
    bounds: dict[str, Any] = {
        "gates": gather_gates(trainings, stages),
        "actions": [
            Action(**{**row, "stage": each.stage}, before=row.get("from"), after=row.get("to"))
            for each in trainings
            for row in sorted(each.actions, key=lambda row: int(row["step"]))
        ],
    }
    if training is None:
        return Monitoring(**bounds)
    summary, steps = training.summary, sorted(training.steps, key=lambda row: int(row["step"]))
    return Monitoring(
        **bounds,
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


def gather_gates(trainings: Sequence[TrainingRecord], stages: Sequence[StageRecord]) -> list[Gate]:
    """Return the limits of all trainings, then those of merges, with the stage of each."""
    judged = [(training.stage, training.summary.get("gates")) for training in trainings]
    judged += [(stage.name, stage.metrics.get("gates")) for stage in stages if stage.kind == "merge"]
    return [Gate(**{**row, "stage": stage}) for stage, rows in judged for row in rows or ()]


def gather_control(steps: Sequence[Mapping[str, Any]]) -> list[ControlPoint]:
    """Return replay share and rate factor where they change; empty without an active controller."""
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
    """Return the relative update of every layer at every reading of the weights."""
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
    """Return the norms of new embedding rows relative to old rows."""
    rows = [row for found in training.readings("new-tokens").values() for row in found]
    points = [NewTokens(step=row["step"], tokens=row["tokens"], **(row.get("detail") or {})) for row in rows]
    return thinned(points, lambda point: point.input, lambda point: point.output)


def gather_sources(steps: Sequence[Mapping[str, Any]]) -> SourceTokens | None:
    """Return the trained tokens by source over time."""
    rows = [row for row in steps if row.get("sources")]
    if not rows:
        return None
    rows = thinned(rows, lambda row: row["tokens"], limit=SOURCE_POINTS)
    names = dict.fromkeys(name for row in rows for name in row["sources"])
    return SourceTokens(
        tokens=[0, *(row["tokens"] for row in rows)],
        sources={name: [0, *(row["sources"].get(name, 0) for row in rows)] for name in names},
    )
