"""Give verdicts on differences: correct their p-values for the number of questions asked together.

A few items cannot give a small p-value: five that all change in one direction give 2 · 0.5^5 = 0.0625. Such
questions cannot lead to a false finding, so the correction does not count them (Tarone 1990, "A modified
Bonferroni method for discrete data", Biometrics 46). It divides the level by the smallest k for which no more
than k questions can have p <= level / k. The smallest p-value of a question must not depend on which model is
better; given the number of items on which they differ, it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from evals.comparing.paired_tasks import Difference

Correction = Literal["holm", "bh", "none"]
"""holm: at the confidence, no finding is false; bh: at most the level's share of the findings is false."""

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


def adjust(
    p_values: Sequence[float],
    correction: Correction,
    smallest: Sequence[float] | None = None,
    level: float = 0.05,
) -> list[float]:
    """Adjust p-values, so that each is compared with the level as if it were the only one.

    holm: Holm 1979, "A simple sequentially rejective multiple test procedure", with Tarone's divisor for the
    questions left at each step (Hommel and Krummenauer 1998, "Improvements and modifications of Tarone's
    multiple test procedure for discrete data", Biometrics 54). Fewer questions never have a larger divisor,
    so that the first false finding is as unlikely as in Tarone's procedure: no finding is false with
    probability 1 - level, under any dependence.

    bh: Benjamini and Hochberg 1995, "Controlling the false discovery rate", among the questions that can have
    p <= level. Gilbert 2005, "A modified false discovery rate multiple-comparisons procedure for discrete
    data", takes the smaller set of those that can have p <= level / k, with Tarone's k; with many findings,
    questions outside it can be found too.

    Args:
        p_values: p-values of the questions.
        correction: Correction.
        smallest: Smallest p-value that each question can have; 0 for all if None.
        level: Level that the adjusted p-values are compared with; Tarone's divisor depends on it.
    """
    p = np.asarray(p_values, dtype=float)
    least = np.zeros_like(p) if smallest is None else np.asarray(smallest, dtype=float)
    if correction == "none" or not len(p):
        return p.tolist()
    adjusted, order = p.copy(), np.argsort(p)
    if correction == "holm":
        divisors = [divisor(least[order[place:]], level) for place in range(len(p))]
        adjusted[order] = np.maximum.accumulate(p[order] * divisors)
    else:
        order = order[least[order] <= level]
        ratios = p[order] * len(order) / np.arange(1, len(order) + 1)
        adjusted[order] = np.minimum.accumulate(ratios[::-1])[::-1]
    return np.minimum(adjusted, 1.0).tolist()


def divisor(smallest: Sequence[float] | np.ndarray, level: float) -> int:
    """Return Tarone's number of questions: the smallest k with at most k smallest p-values <= level / k."""
    least = np.sort(np.asarray(smallest, dtype=float))
    return next(k for k in range(1, len(least) + 2) if np.searchsorted(least, level / k, side="right") <= k)


Verdict = Literal["better", "worse", "no change"]


@dataclass(frozen=True)
class Judge:
    """Rule that turns differences asked about together into verdicts.

    Attributes:
        level: Level of the verdicts, after the correction.
        correction: Correction.
        power: Power of the minimum detectable effect.
    """

    level: float
    correction: Correction
    power: float

    def __call__(
        self, differences: Sequence[Difference], higher_is_better: Sequence[bool]
    ) -> list[dict[str, Any]]:
        """Return the fields of `evals.comparing.comparison.ScoreComparison` but for the suite."""
        smallest = [found.smallest_p for found in differences]
        adjusted = adjust([found.p for found in differences], self.correction, smallest, self.level)
        strictest = self._strictest(differences)
        return [
            {
                "a": found.a,
                "a_stderr": found.a_stderr,
                "b": found.b,
                "b_stderr": found.b_stderr,
                "difference": found.difference,
                "stderr": found.stderr,
                "interval": found.interval,
                "p": found.p,
                "p_adjusted": p,
                "minimum_detectable_effect": found.minimum_detectable_effect(strictest, self.power),
                "verdict": self._verdict(found.difference if up else -found.difference, p),
            }
            for found, p, up in zip(differences, adjusted, higher_is_better, strict=True)
        ]

    def too_few_resamples(self, differences: Sequence[Difference], resamples: int) -> Iterator[str]:
        """Yield a note if no resampled p-value can be small enough for a verdict."""
        smallest = 1 / (resamples + 1)
        resampled = any(found.disagreement is None for found in differences)
        if resampled and self._strictest(differences) < smallest:
            yield (
                f"{resamples:,} resamples give no p-value below {smallest:.2g}: too few for a verdict on a "
                f"graded score or a group among {len(differences):,} tasks and groups."
            )

    def _strictest(self, differences: Sequence[Difference]) -> float:
        """Return the level that the smallest p-value of the differences has to reach."""
        if self.correction == "none":
            return self.level
        smallest = [found.smallest_p for found in differences]
        if self.correction == "holm":
            return self.level / divisor(smallest, self.level)
        return self.level / max(1, sum(p <= self.level for p in smallest))

    def _verdict(self, gain: float, p: float) -> Verdict:
        if p > self.level or gain == 0:
            return "no change"
        return "better" if gain > 0 else "worse"
