"""Held-out texts and tasks, before, during and after training. Texts are in bits per byte."""
# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from typing import Literal

from cpt.report.schema.base import Fact, Interval


class CurvePoint(Fact):
    """One reading of a probe during training.

    rise, rise_error: change since the first reading on the same items, and its paired standard error.
    share: how much of the probe's sample was read.
    """

    step: int
    tokens: int
    value: float | None
    standard_error: float | None = None
    rise: float | None = None
    rise_error: float | None = None
    share: float | None = None


class StabilityGap(Fact):
    """How far a curve went the wrong way, and whether it came back.

    depth, area: largest loss against the base level during training, and that loss summed over tokens
        (the probe's unit times tokens).
    trough_step, recovery_step: where the loss is largest, and where the base level is reached again
        (None: never).
    gap, forgotten: whether the depth, and what is left of it at the end, are more than noise.
    """

    depth: float | None = None
    depth_error: float | None = None
    trough_step: int | None = None
    trough_tokens: int | None = None
    recovery_step: int | None = None
    recovery_tokens: int | None = None
    area: float | None = None
    gap: bool | None = None
    forgotten: bool | None = None
    curve: list[CurvePoint] = []


class ProbeTraining(Fact):
    """What a probe's curve alone says: the base and the last reading of the training stage."""

    before: float | None = None
    end: float | None = None
    permanent: float | None = None
    permanent_error: float | None = None


class Probe(StabilityGap):
    """Held-out text of one kind, before and after.

    before, after: base model and final model; on evaluate's held-out text (`measured_by` evaluate), else the
        first and last reading of the training curve.
    permanent: after minus before.
    sample: fingerprint of the documents that training's probe read, and how much of each.
    """

    before: float | None = None
    after: float | None = None
    permanent: float | None = None
    measured_by: Literal["evaluate", "training"] = "training"
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    difference: Interval | None = None
    documents: int | None = None
    bytes: int | None = None
    training: ProbeTraining | None = None
    sample: str | None = None


class Continual(Fact):
    """Figures of a task's accuracies during training (De Lange et al. 2022), shares of 1.

    min_acc, wc_acc: lowest accuracy, and the worst case of all tasks together.
    windowed_forgetting, windowed_plasticity: largest fall and largest rise within a window of readings.
    """

    min_acc: float | None = None
    wc_acc: float | None = None
    windowed_forgetting: float | None = None
    windowed_plasticity: float | None = None


class TaskCurve(StabilityGap):
    """A task's accuracy during training; shares of 1, higher is better."""

    before: float | None = None
    end: float | None = None
    permanent: float | None = None
    permanent_error: float | None = None
    continual: Continual | None = None
