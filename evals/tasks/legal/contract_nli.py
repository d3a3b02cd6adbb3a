"""Scoring of ContractNLI (Koreeda and Manning 2021, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
