"""The stability gap of a probe's curve (De Lange et al. 2022; Guo et al. 2024, arXiv 2406.14833).

A loss first rises above where it began, then recovers, perhaps not wholly. `depth - permanent` is the
gap, `permanent` is forgetting. Both are tested against noise by the paired errors of the rises
(`cpt.monitor.noise`): the highest of many noisy readings is always above zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot

from cpt.monitor.noise import critical, known, looks
from cpt.monitor.reading import HIGHER_IS_BETTER, Reading

FOLLOWED = ("text", "task")
"""Kinds of probes that can recover: drift and updates only grow."""


@dataclass(frozen=True)
class Point:
    """A point of a probe's curve.

    Attributes:
        step, tokens: Numbers of steps and tokens trained.
        value: Value in the probe's unit.
        worse: Deterioration since before training, on the same items.
        error: Standard error of `worse`; NaN if unknown.
        items: Number of items that the error is estimated from; None if it is exact.
    """

    step: int
    tokens: int
    value: float
    worse: float
    error: float = 0.0
    items: int | None = None

    @classmethod
    def of(cls, reading: Reading) -> Point:
        """Return the point of a reading; an accuracy is worse when it falls."""
        sign = -1 if reading.unit in HIGHER_IS_BETTER else 1
        worse = sign * reading.rise
        return cls(reading.step, reading.tokens, reading.value, worse, reading.rise_error, reading.items)

    def at_least(self, looks: int) -> float:
        """Return the deterioration beyond the noise of many interim looks."""
        return self.worse - critical(looks, self.items) * known(self.error)


@dataclass(frozen=True)
class StabilityGap:
    """Figures of one curve, in its unit (bits per byte, accuracy); area in that unit times tokens.

    Errors are standard errors of paired differences; None where they are not known.

    Attributes:
        before, end: First and last value.
        depth: Largest deterioration; 0 if there was none.
        trough_step, trough_tokens: Position of the largest deterioration, among significant readings if any.
        recovery_step, recovery_tokens: First point after the trough that is back, within the tolerance or one
            standard error; None if the probe never recovered, or nothing rose.
        area: ∫ max(0, worse) d tokens, trapezoidal between the points; 0 if nothing rose.
        permanent: Deterioration at the end; negative for an improvement.
        gap: True if some reading was worse by more than noise and the tolerance.
        forgotten: True if the last reading was.
    """

    before: float
    end: float
    depth: float
    depth_error: float | None
    trough_step: int
    trough_tokens: int
    recovery_step: int | None
    recovery_tokens: int | None
    area: float
    area_error: float | None
    permanent: float
    permanent_error: float | None
    gap: bool
    forgotten: bool


def stability_gap(curve: Sequence[Point], tolerance: float = 0.0, probes: int = 1) -> StabilityGap:
    """Return the figures of a curve whose first point is the model before training.

    Args:
        curve: Points in order of steps, at least one.
        tolerance: Deterioration that still counts as recovered.
        probes: Number of curves that are tested together.
    """
    first, last = curve[0], curve[-1]
    looked = looks(len(curve), probes)
    risen = [point for point in curve if point.at_least(looked) > tolerance]
    trough = max(risen or curve, key=lambda point: point.worse)
    after = [point for point in curve if point.step > trough.step]
    back = (point for point in after if point.worse <= max(tolerance, known(point.error)))
    recovery = next(back, None) if risen else None
    return StabilityGap(
        before=first.value,
        end=last.value,
        depth=max(0.0, trough.worse),
        depth_error=_given(trough.error),
        trough_step=trough.step,
        trough_tokens=trough.tokens,
        recovery_step=recovery.step if recovery else None,
        recovery_tokens=recovery.tokens if recovery else None,
        area=_area(curve) if risen else 0.0,
        area_error=_area_error(curve) if risen else 0.0,
        permanent=last.worse,
        permanent_error=_given(last.error),
        gap=bool(risen),
        forgotten=not last.at_least(probes) <= tolerance,  # NaN: a model that has diverged
    )


def stability(readings: Iterable[Reading], tolerance: float) -> dict[str, StabilityGap]:
    """Return the figures of every probe that can recover: texts and tasks."""
    curves: dict[str, list[Point]] = {}
    for reading in readings:
        if reading.kind in FOLLOWED:
            curves.setdefault(reading.probe, []).append(Point.of(reading))
    return {name: stability_gap(curve, tolerance, len(curves)) for name, curve in curves.items()}


def _area(curve: Sequence[Point]) -> float:
    return sum(
        (max(0.0, a.worse) + max(0.0, b.worse)) / 2 * (b.tokens - a.tokens) for a, b in pairwise(curve)
    )


def _area_error(curve: Sequence[Point]) -> float | None:
    """Return the standard error of the area, as if errors of different readings were independent."""
    spans = [b.tokens - a.tokens for a, b in pairwise(curve)]
    widths = [(left + right) / 2 for left, right in zip([0, *spans], [*spans, 0], strict=True)]
    return _given(hypot(*(w * p.error for w, p in zip(widths, curve, strict=True) if p.worse > 0), 0.0))


def _given(error: float) -> float | None:
    return error if error == error else None  # NaN is not equal to itself
