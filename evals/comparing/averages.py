"""Macro averages: one number for a suite, in which a data set of many tasks counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from evals.results import Average, TaskScore


def weights(groups: Sequence[str]) -> np.ndarray:
    """What each task counts in the mean over groups of the means over their tasks: [tasks], sum 1."""
    sizes = Counter(groups)
    return np.array([1 / (len(sizes) * sizes[group]) for group in groups])


def propagate(shares: np.ndarray, errors: Iterable[float | None]) -> float | None:
    """Standard error of a weighted sum of independent values; None if one of the errors is unknown."""
    known = [error for error in errors if error is not None]
    return None if len(known) < len(shares) else float(np.sqrt((shares**2) @ np.square(known)))


def sum_interval(
    value: float, shares: np.ndarray, errors: Iterable[float | None], units: Iterable[int], confidence: float
) -> tuple[float, float] | None:
    """Student's interval of a weighted sum of independent values, with Satterthwaite's degrees of freedom.

    Args:
        units: independent observations that each error is estimated from.

    Returns:
        None where an error is unknown or all are zero: the observations do not tell.
    """
    from scipy.special import stdtrit

    stderr = propagate(shares, errors)
    if not stderr:
        return None
    parts = np.square(shares * np.array(list(errors), dtype=float))
    freedom = stderr**4 / (parts**2 / (np.array(list(units)) - 1)).sum()
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * stderr
    return value - half, value + half


def macro_average(tasks: Sequence[TaskScore]) -> Average | None:
    """Macro average of one suite's tasks; None if lower is better in all of them."""
    counted = [task for task in tasks if task.higher_is_better]
    if not counted:
        return None
    groups = [task.group for task in counted]
    shares = weights(groups)
    return Average(
        score=float(shares @ [task.score for task in counted]),
        stderr=propagate(shares, [task.stderr for task in counted]),
        groups=len(set(groups)),
        apart=tuple(task.task for task in tasks if not task.higher_is_better),
    )


def averages(tasks: Sequence[TaskScore]) -> dict[str, Average]:
    """Macro average by suite, in the order of the tasks."""
    found = {
        suite: macro_average([task for task in tasks if task.suite == suite])
        for suite in dict.fromkeys(task.suite for task in tasks)
    }
    return {suite: average for suite, average in found.items() if average is not None}
