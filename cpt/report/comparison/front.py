"""The Pareto front of domain gain against general rise: the runs that are worth choosing from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cpt.report.comparison.intervals import Estimate, is_lower


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
