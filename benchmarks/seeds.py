"""Average what trainings with several seeds gave, with the interval of the trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.sweep import effects


def mean_over_seeds(changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a mean with its 95% interval: Student's t over the seeds; that of the items for one seed.

    Intervals of items leave out what trainings scatter, which is often more.

    Args:
        changes: Of each seed the `value`, and `low` and `high` of its items.
    """
    mean = effects.mean_over_seeds([change["value"] for change in changes])
    bounds = (mean.low, mean.high) if len(changes) > 1 else (changes[0]["low"], changes[0]["high"])
    return {"mean": mean.value, "low": bounds[0], "high": bounds[1], "seeds": list(mean.seeds)}
