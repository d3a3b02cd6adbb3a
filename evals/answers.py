"""How a written answer is compared with the one that was wanted."""

from __future__ import annotations

import functools
import string
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """An answer without punctuation, outer spaces and capitals (LegalBench's evaluation.py)."""
    return answer.translate(_PUNCTUATION).strip().lower()


def rouge_l(wanted: str, said: str) -> float:
    """F1 of the longest common subsequence of words, stemmed (Lin 2004); 0 to 1."""
    score: float = _scorer().score(wanted, said)["rougeL"].fmeasure
    return score


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
