"""Figures of continual evaluation for accuracies (De Lange et al. 2022, arXiv 2205.13452, section 3).

The worst readings, not the last ones, show whether a model learns steadily. A curve is a task's accuracy at
each of a run's readings, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from cpt.monitor.reading import Reading

WINDOW = 5
"""Number of readings in a window."""


@dataclass(frozen=True)
class Continual:
    """Continual-evaluation figures of one task, as shares of 1.

    Attributes:
        min_acc: Lowest accuracy since training began, the task's term in the min-ACC of the other tasks.
        wc_acc: Worst-case accuracy: accuracy at the end, weighed against the worst of all other tasks.
        windowed_forgetting, windowed_plasticity: Largest fall and largest rise within `WINDOW` readings.
    """

    min_acc: float
    wc_acc: float
    windowed_forgetting: float
    windowed_plasticity: float


def min_accuracy(curves: Sequence[Sequence[float]]) -> float:
    """Return min-ACC_k = 1/(k-1) · Σ_{i<k} min_{t_i < n <= t_k} A(E_i, n).

    Args:
        curves: Curve of each earlier task after it was learned (n > t_i).
    """
    return sum(min(curve) for curve in curves) / len(curves)


def worst_case_accuracy(current: float, others: Sequence[Sequence[float]]) -> float:
    """Return WC-ACC_n = A(E_k, n)/k + (1 - 1/k) · min-ACC_k; without other tasks the accuracy itself.

    Args:
        current: Current accuracy of the task that is being learned.
        others: Curves of the k - 1 earlier tasks, after each was learned.
    """
    if not others:
        return current
    k = len(others) + 1
    return current / k + (1 - 1 / k) * min_accuracy(others)


def windowed_forgetting(curve: Sequence[float], window: int) -> float:
    """Return WF^w: the largest fall from an earlier to a later of `window` successive readings, or 0."""
    return max(
        (high - value for part in _windows(curve, window) for high, value in _so_far(part)), default=0.0
    )


def windowed_plasticity(curve: Sequence[float], window: int) -> float:
    """Return WP^w: the largest rise from an earlier to a later of `window` successive readings, or 0."""
    return windowed_forgetting([-value for value in curve], window)


def continual(readings: Iterable[Reading]) -> dict[str, Continual]:
    """Return the figures of every task with readings of its accuracy.

    Each task in turn is the one that is learned; the base model already knew the others (t_i = 0).
    """
    curves: dict[str, list[float]] = {}
    for reading in readings:
        if reading.unit == "accuracy":
            curves.setdefault(reading.probe, []).append(reading.value)
    return {name: _figures(name, curves) for name in curves}


def _figures(name: str, curves: Mapping[str, Sequence[float]]) -> Continual:
    curve = curves[name]
    others = [_trained(other) for key, other in curves.items() if key != name]
    return Continual(
        min_accuracy([_trained(curve)]),
        worst_case_accuracy(curve[-1], others),
        windowed_forgetting(curve, WINDOW),
        windowed_plasticity(curve, WINDOW),
    )


def _trained(curve: Sequence[float]) -> Sequence[float]:
    """Return the readings after training began, or the first if there are none."""
    return curve[1:] or curve


def _windows(curve: Sequence[float], window: int) -> Iterable[Sequence[float]]:
    return (curve[start : start + window] for start in range(max(1, len(curve) - window + 1)))


def _so_far(curve: Sequence[float]) -> Iterable[tuple[float, float]]:
    """Return each value with the highest value up to it."""
    return zip(accumulate(curve, max), curve, strict=True)
