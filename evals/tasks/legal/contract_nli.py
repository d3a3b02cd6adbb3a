"""Scoring of ContractNLI (Koreeda and Manning 2021, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_CONTRADICTION, _ENTAILMENT = 0, 1


def conclusion(doc: Mapping[str, Any], choices: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Whether the likeliest conclusion is right, and is and should be a contradiction or an entailment."""
    likelihoods = [likelihood for likelihood, _ in choices]
    chosen = likelihoods.index(max(likelihoods))
    return {
        "acc": float(chosen == doc["label"]),
        "f1_contradiction": (int(doc["label"] == _CONTRADICTION), int(chosen == _CONTRADICTION)),
        "f1_entailment": (int(doc["label"] == _ENTAILMENT), int(chosen == _ENTAILMENT)),
    }
