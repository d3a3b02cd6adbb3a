"""Average what trainings with several seeds gave, with the interval of the trainings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats


def mean_over_seeds(changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a mean with its 95% interval: Student's t over the seeds; that of the items for one seed.

    Intervals of items leave out what trainings scatter, which is often more.

    Args:
        changes: Of each seed the `value`, and `low` and `high` of its items.
    """
    values = [change["value"] for change in changes]
    mean, count = sum(values) / len(values), len(values)
    if count == 1:
        return {"mean": mean, "low": changes[0]["low"], "high": changes[0]["high"], "seeds": values}
    half = float(stats.t.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": values}
