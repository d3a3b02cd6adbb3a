"""The stability gap of a probe's curve (De Lange et al. 2022; Guo et al. 2024, arXiv 2406.14833).

A loss first rises above where it began, then recovers, perhaps not wholly. `depth - permanent` is the
gap, `permanent` is forgetting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpt.monitor.reading import Reading


@dataclass(frozen=True)
class Point:
    """A probe's value after some training."""

    step: int
    tokens: int
    value: float


@dataclass(frozen=True)
class StabilityGap:
    """Figures of one curve, in its unit (bits per byte); area in that unit times tokens.

    Attributes:
        before, end: first and last value.
        depth: highest value minus `before`; 0 when nothing rose.
        trough_step, trough_tokens: where the highest value lies (the first such point).
        recovery_step, recovery_tokens: first point after the trough that is back at `before`, within the
            tolerance; None when it never came back, or when nothing rose.
        area: ∫ max(0, value - before) d tokens, trapezoidal between the points' values.
        permanent: `end` - `before`.
    """

    before: float
    end: float
    depth: float
    trough_step: int
    trough_tokens: int
    recovery_step: int | None
    recovery_tokens: int | None
    area: float
    permanent: float


def stability_gap(curve: Sequence[Point], tolerance: float = 0.0) -> StabilityGap:
    """Figures of a curve whose first point is the model before training.

    Args:
        curve: points in order of steps, at least one.
        tolerance: how far above the first value still counts as recovered.
    """
    first, last = curve[0], curve[-1]
    trough = max(curve, key=lambda point: point.value)
    after = [point for point in curve if point.step > trough.step]
    depth = trough.value - first.value
    recovery = next((point for point in after if point.value <= first.value + tolerance), None)
    if depth <= tolerance:
        recovery = None
    rises = [max(0.0, point.value - first.value) for point in curve]
    area = sum(
        (rises[i] + rises[i + 1]) / 2 * (curve[i + 1].tokens - curve[i].tokens) for i in range(len(curve) - 1)
    )
    return StabilityGap(
        before=first.value,
        end=last.value,
        depth=depth,
        trough_step=trough.step,
        trough_tokens=trough.tokens,
        recovery_step=recovery.step if recovery else None,
        recovery_tokens=recovery.tokens if recovery else None,
        area=area,
        permanent=last.value - first.value,
    )


def stability(readings: Iterable[Reading], tolerance: float) -> dict[str, StabilityGap]:
    """The stability gap of every text that was probed."""
    curves: dict[str, list[Point]] = {}
    for reading in readings:
        if reading.kind == "text":
            curves.setdefault(reading.probe, []).append(Point(reading.step, reading.tokens, reading.value))
    return {name: stability_gap(curve, tolerance) for name, curve in curves.items()}
