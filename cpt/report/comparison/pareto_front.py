"""Compare runs beyond the noise, and find the Pareto front of domain gain against general rise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cpt.formatting import Z_95
from cpt.report.comparison.schema import WRITTEN
from cpt.report.schema import Interval


class Documents(NamedTuple):
    """Loss of a final model on every held-out document.

    texts: fingerprints, [documents]. nats, bytes: loss and length of each document, [documents].
    """

    texts: tuple[str, ...]
    nats: np.ndarray
    bytes: np.ndarray


class Estimate(NamedTuple):
    """A run's figure with its own interval; for a change on held-out text also the losses by document."""

    interval: Interval
    documents: Documents | None = None


def are_paired(a: Estimate, b: Estimate) -> bool:
    """Return True if both were measured on the same documents, with known losses."""
    if a.documents is None or b.documents is None:
        return False
    return len(a.documents.texts) > 1 and set(a.documents.texts) == set(b.documents.texts)


def difference(a: Estimate, b: Estimate) -> Interval:
    """Return b - a with its interval: paired by document (95%) if possible, else from both intervals.

    Returns:
        Difference, without bounds if the noise of either is unknown.
    """
    if a.documents and b.documents and are_paired(a, b):
        return _paired(b.interval.value - a.interval.value, a.documents, b.documents)
    return independent(a.interval, b.interval)


def independent(a: Interval, b: Interval) -> Interval:
    """Return b - a as if both were independent (MOVER: Zou and Donner 2008, Statistics in Medicine 27).

    Figures of runs on the same text are correlated: a hard document is hard for both. Their difference is
    then more precise than this interval.
    """
    value = b.value - a.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Interval(value=value)
    return Interval(
        value=value,
        low=value - math.hypot(b.value - b.low, a.high - a.value),
        high=value + math.hypot(b.high - b.value, a.value - a.low),
    )


def _paired(value: float, a: Documents, b: Documents) -> Interval:
    """Return the difference of two ratios Σ nats / Σ bytes over the same documents (delta method)."""
    count = len(a.texts)
    order = {text: index for index, text in enumerate(b.texts)}
    aligned = [order[text] for text in a.texts]
    residuals = _residuals(b)[aligned] - _residuals(a)  # [documents]
    error = math.sqrt(count / (count - 1) * float((residuals**2).sum())) / math.log(2)
    return Interval(value=value, low=value - Z_95 * error, high=value + Z_95 * error)


def _residuals(documents: Documents) -> np.ndarray:
    """Return each document's influence on Σ nats / Σ bytes, in nats per byte: [documents]."""
    ratio = documents.nats.sum() / documents.bytes.sum()
    residuals: np.ndarray = (documents.nats - ratio * documents.bytes) / documents.bytes.sum()
    return residuals


def is_lower(a: Estimate, b: Estimate) -> bool:
    """Return True if a is below b by more than the noise and by at least a printed digit."""
    between = difference(a, b)
    beyond_noise = between.low is None or between.low > 0.0
    return beyond_noise and between.value >= WRITTEN


def lowest(figures: Mapping[str, Estimate]) -> list[str]:
    """Return the names of the lowest figure and of those not above it beyond the noise, lowest first."""
    ordered = sorted(figures, key=lambda name: figures[name].interval.value)
    return [name for name in ordered if not is_lower(figures[ordered[0]], figures[name])]


class Changes(NamedTuple):
    """Changes of a run on domain and on general text: bits per byte, lower is better."""

    domain: Estimate
    general: Estimate


def dominates(a: Changes, b: Changes) -> bool:
    """Return True if a is better than b on one kind of text and not worse on the other, beyond the noise."""
    pairs = list(zip(a, b, strict=True))
    better = any(is_lower(mine, other) for mine, other in pairs)
    return better and not any(is_lower(other, mine) for mine, other in pairs)


def dominated_by(runs: Mapping[str, Changes]) -> dict[str, list[str]]:
    """Return for each run the runs that dominate it.

    "Beyond the noise" is not transitive, so that every run may be dominated by another one. No run can be
    preferred then, and all lists are empty: all runs are on the front.
    """
    found = {
        name: [other for other, theirs in runs.items() if other != name and dominates(theirs, own)]
        for name, own in runs.items()
    }
    return found if not all(found.values()) else {name: [] for name in found}
