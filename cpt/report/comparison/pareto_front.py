"""Which of two runs' figures is lower, given what is known of their noise.

The Pareto front of domain gain against general rise: the runs that are worth choosing from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cpt.formatting import Z_95
from cpt.report.comparison.schema import WRITTEN
from cpt.report.schema import Interval


class Documents(NamedTuple):
    """A final model's loss on every held-out document that evaluate measured.

    texts: [documents] fingerprints. nats, bytes: [documents] loss, and the bytes that it is spent on.
    """

    texts: tuple[str, ...]
    nats: np.ndarray
    bytes: np.ndarray


class Estimate(NamedTuple):
    """A run's figure with its own interval; for a change on held-out text also what it was found on."""

    interval: Interval
    documents: Documents | None = None


def are_paired(a: Estimate, b: Estimate) -> bool:
    """Whether both were found on the same documents, each of which is known."""
    if a.documents is None or b.documents is None:
        return False
    return len(a.documents.texts) > 1 and set(a.documents.texts) == set(b.documents.texts)


def difference(a: Estimate, b: Estimate) -> Interval:
    """b - a with its interval: 95%, document by document, where they are paired, else from their own.

    Returns:
        Without bounds where nothing is known of the noise of either.
    """
    if a.documents and b.documents and are_paired(a, b):
        return _paired(b.interval.value - a.interval.value, a.documents, b.documents)
    return independent(a.interval, b.interval)


def independent(a: Interval, b: Interval) -> Interval:
    """b - a as if the two were independent (MOVER: Zou and Donner 2008, Statistics in Medicine 27).

    Figures of runs that read the same text are not: what is hard for one is hard for the other, so their
    difference is known better than this says.
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
    """The interval of a difference of two ratios Σ nats / Σ bytes over the same documents (delta method)."""
    count = len(a.texts)
    order = {text: index for index, text in enumerate(b.texts)}
    aligned = [order[text] for text in a.texts]
    residuals = _residuals(b)[aligned] - _residuals(a)  # [documents]
    error = math.sqrt(count / (count - 1) * float((residuals**2).sum())) / math.log(2)
    return Interval(value=value, low=value - Z_95 * error, high=value + Z_95 * error)


def _residuals(documents: Documents) -> np.ndarray:
    """How much each document adds to Σ nats / Σ bytes beyond its share, in nats per byte: [documents]."""
    ratio = documents.nats.sum() / documents.bytes.sum()
    residuals: np.ndarray = (documents.nats - ratio * documents.bytes) / documents.bytes.sum()
    return residuals


def is_lower(a: Estimate, b: Estimate) -> bool:
    """Whether a is below b by more than the noise and by as much as is written."""
    between = difference(a, b)
    beyond_noise = between.low is None or between.low > 0.0
    return beyond_noise and between.value >= WRITTEN


def lowest(figures: Mapping[str, Estimate]) -> list[str]:
    """Names of the figures that the lowest is not below, by more than the noise; the lowest value first."""
    ordered = sorted(figures, key=lambda name: figures[name].interval.value)
    return [name for name in ordered if not is_lower(figures[ordered[0]], figures[name])]


class Changes(NamedTuple):
    """What a run changed on domain and on general text: bits per byte, lower is better."""

    domain: Estimate
    general: Estimate


def dominates(a: Changes, b: Changes) -> bool:
    """Whether a is better than b on one kind of text, and not worse on the other, both beyond the noise."""
    pairs = list(zip(a, b, strict=True))
    better = any(is_lower(mine, other) for mine, other in pairs)
    return better and not any(is_lower(other, mine) for mine, other in pairs)


def dominated_by(runs: Mapping[str, Changes]) -> dict[str, list[str]]:
    """For each run the runs that beat it.

    Noise can close a circle in which each run dominates the next; then none of them can be preferred, and
    whoever would be left with no run on the front gets an empty list for all.
    """
    found = {
        name: [other for other, theirs in runs.items() if other != name and dominates(theirs, own)]
        for name, own in runs.items()
    }
    return found if not all(found.values()) else {name: [] for name in found}
