"""Verdicts: differences that are asked about together, their p-values corrected for their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evals.comparing.correction import Correction, adjust, divisor
from evals.comparing.differences import Difference

Verdict = Literal["better", "worse", "no change"]


@dataclass(frozen=True)
class Judge:
    """Turns differences that are asked about together into verdicts.

    Attributes:
        level: of the verdicts, after the correction.
        power: that the smallest visible difference refers to.
    """

    level: float
    correction: Correction
    power: float

    def __call__(
        self, differences: Sequence[Difference], higher_is_better: Sequence[bool]
    ) -> list[dict[str, Any]]:
        """Return the fields of `evals.comparing.comparison.Compared` but for the suite."""
        smallest = [found.smallest for found in differences]
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
                "visible": found.visible(strictest, self.power),
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
        """Level that a p-value has to reach were it the smallest of the differences'."""
        if self.correction == "none":
            return self.level
        smallest = [found.smallest for found in differences]
        if self.correction == "holm":
            return self.level / divisor(smallest, self.level)
        return self.level / max(1, sum(p <= self.level for p in smallest))

    def _verdict(self, gain: float, p: float) -> Verdict:
        if p > self.level or gain == 0:
            return "no change"
        return "better" if gain > 0 else "worse"
