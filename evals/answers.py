"""How a written answer is compared with the one that was wanted."""

from __future__ import annotations

import functools
from typing import Any


def rouge_l(wanted: str, said: str) -> float:
    """F1 of the longest common subsequence of words, stemmed (Lin 2004); 0 to 1."""
    score: float = _scorer().score(wanted, said)["rougeL"].fmeasure
    return score


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    return RougeScorer(["rougeL"], use_stemmer=True)
