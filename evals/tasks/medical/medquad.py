"""Items and scoring of MedQuAD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.answers import rouge_l


def answered(dataset: Any) -> Any:
    """Questions that have an answer: those of three collections were taken out for copyright."""
    return dataset.filter(lambda row: bool(row["answer"]))


def compared(doc: Mapping[str, str], texts: Sequence[str]) -> dict[str, float]:
    """ROUGE-L with the institute's answer."""
    return {"rougeL": rouge_l(doc["answer"], texts[0])}
