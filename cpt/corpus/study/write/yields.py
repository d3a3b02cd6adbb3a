"""Count the results of a model by kind, used or not and why, and stop one of which too few can be used."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

from cpt.corpus.study.write.settings import Kind
from cpt.errors import StageFailed

ENOUGH = 16
"""Fewest results of a kind whose share says something: with a true share of 30%, one of 16 is used in 99.7%
of cases."""

_REASONS = 3


class Diversity:
    """Compression ratio of texts together (Shaib et al., arXiv 2403.00553): lower is more diverse."""

    def __init__(self) -> None:
        self._squeeze, self._before, self._after = zlib.compressobj(6), 0, 0

    def add(self, text: str) -> None:
        """Add a text."""
        data = f"{text}\n".encode("utf-8", "replace")
        self._before += len(data)
        self._after += len(self._squeeze.compress(data))

    @property
    def ratio(self) -> float | None:
        """Return the ratio; None if there is no text."""
        rest = len(self._squeeze.copy().flush())
        return round(self._before / (self._after + rest), 3) if self._before else None


class Yields:
    """Results by kind: those that are used, and the reasons for the others.

    Attributes:
        documents: Diversity of the passages that are written about.
    """

    def __init__(self) -> None:
        self._used: Counter[Kind] = Counter()
        self._dropped: dict[Kind, Counter[str]] = {}
        self._outcomes: dict[Kind, Counter[str]] = {}
        self._details: dict[Kind, str] = {}
        self._diversity: dict[Kind, Diversity] = {}
        self.documents = Diversity()

    def use(self, kind: Kind, text: str = "", *, outcome: str = "") -> None:
        """Count a result that is used.

        Args:
            text: Its text.
            outcome: Name of a result without a text.
        """
        self._used[kind] += 1
        if text:
            self._diversity.setdefault(kind, Diversity()).add(text)
        else:
            self._outcomes.setdefault(kind, Counter())[outcome] += 1

    def drop(self, kind: Kind, reason: str, detail: str = "") -> None:
        """Count a result that cannot be used."""
        self._dropped.setdefault(kind, Counter())[reason] += 1
        if detail:
            self._details.setdefault(kind, detail)

    def results(self, kind: Kind) -> int:
        """Return the number of results of a kind."""
        return self._used[kind] + self._dropped.get(kind, Counter()).total()

    def require(self, least: float, enough: int = ENOUGH) -> None:
        """Raise if too few results of a kind can be used.

        Args:
            least: Least share.
            enough: Fewest results that are judged.

        Raises:
            StageFailed: The share is lower.
        """
        for kind in self._kinds():
            results = self.results(kind)
            if results < enough or self._used[kind] >= least * results:
                continue
            detail = f". {self._details[kind]}" if kind in self._details else ""
            raise StageFailed(
                f"study.write: {self._described(kind)} can be used, less than least_yield {least:g}{detail}",
                hint="Take a more able model, or leave the kind out of `kinds`; `least_yield: 0` goes on "
                "anyway. The answers are kept.",
            )

    def describe(self) -> str:
        """Return in words how many results can be used: "rephrase 14 of 16 (copied 2)"."""
        return ", ".join(self._described(kind) for kind in self._kinds()) or "nothing"

    def _described(self, kind: Kind) -> str:
        dropped = self._dropped.get(kind, Counter()).most_common(_REASONS)
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in dropped)
        return f"{kind} {self._used[kind]:,} of {self.results(kind):,}{f' ({reasons})' if reasons else ''}"

    def _kinds(self) -> list[Kind]:
        return sorted({*self._used, *self._dropped})

    def facts(self) -> dict[str, Any]:
        """Return all counts as plain data."""
        return {
            kind: {
                "results": self.results(kind),
                "used": self._used[kind],
                "reasons": dict(sorted(self._dropped.get(kind, Counter()).items())),
                "outcomes": dict(sorted(self._outcomes.get(kind, Counter()).items())),
                "compression": self._diversity[kind].ratio if kind in self._diversity else None,
            }
            for kind in self._kinds()
        }
