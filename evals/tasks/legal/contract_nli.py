"""Scoring of ContractNLI (Koreeda and Manning 2021, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CONTRADICTION, _ENTAILMENT = 0, 1


def conclusion(doc: Mapping[str, Any], choices: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Whether the likeliest conclusion is right, and is and should be a contradiction or an entailment."""
    likelihoods = [likelihood for likelihood, _ in choices]
    chosen, right = likelihoods.index(max(likelihoods)), doc["label"]
    return {
        "acc": float(chosen == right),
        "f1_contradiction": (doc["hypothesis"], right == _CONTRADICTION, chosen == _CONTRADICTION),
        "f1_entailment": (doc["hypothesis"], right == _ENTAILMENT, chosen == _ENTAILMENT),
    }


def f1_by_hypothesis(values: Iterable[tuple[str, bool, bool]]) -> float:
    """F1 over the agreements of each hypothesis, then the mean of the hypotheses; 0 where it is undefined.

    Args:
        values: (hypothesis, whether it is so, whether it was said) of each item.
    """
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for hypothesis, is_so, said in values:
        pairs.setdefault(hypothesis, []).append((is_so, said))
    return sum(map(_f1, pairs.values())) / len(pairs)


def _f1(pairs: Sequence[tuple[bool, bool]]) -> float:
    true_and_said = sum(is_so and said for is_so, said in pairs)
    true_or_said = sum(is_so + said for is_so, said in pairs)
    return 2 * true_and_said / true_or_said if true_or_said else 0.0
