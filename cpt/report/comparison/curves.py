"""Readings of several runs above one common level."""

from __future__ import annotations

from cpt.report.comparison.schema import ComparedProbe
from cpt.report.curves import changes
from cpt.report.schema import StabilityGap, TaskCurve


def rises(probe: ComparedProbe | None) -> list[tuple[int, float]]:
    """A probe's readings above the common start: tokens trained, bits per byte. None on text of its own.

    A change is the paired one, on the same documents as the first reading, where that is known.
    """
    if probe is None or probe.offset is None:
        return []
    return [(tokens, change + probe.offset) for tokens, change in _by_tokens(probe)]


def gains(task: TaskCurve | None) -> list[tuple[int, float]]:
    """Changes of a task's accuracy since the first reading: tokens trained, share of 1."""
    return _by_tokens(task) if task else []


def _by_tokens(curve: StabilityGap) -> list[tuple[int, float]]:
    tokens = {point.step: point.tokens for point in curve.curve}
    return [(tokens[step], change) for step, change in changes(curve.curve).items()]
