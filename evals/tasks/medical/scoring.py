"""Choose the items of medical tasks, and score written answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.metrics import rouge_l

_IDS = Path(__file__).with_name("pubmedqa_test_ids.txt")


@functools.cache
def official_ids() -> frozenset[int]:
    """Return the PubMed ids of the official test."""
    lines = _IDS.read_text(encoding="utf-8").splitlines()
    return frozenset(int(number) for line in lines if not line.startswith("#") for number in line.split())


def official_test(dataset: Any) -> Any:
    """Choose the items of the official test."""
    return _as_lm_eval_has_them(dataset.filter(lambda row: int(row["pubid"]) in official_ids()))


def not_in_test(dataset: Any) -> Any:
    """Choose the items that are not in the official test."""
    return _as_lm_eval_has_them(dataset.filter(lambda row: int(row["pubid"]) not in official_ids()))


def _as_lm_eval_has_them(dataset: Any) -> Any:
    """Name the columns as lm-eval's prompt does."""

    def named(row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "QUESTION": row["question"],
            "CONTEXTS": row["context"]["contexts"],
            "final_decision": row["final_decision"],
        }

    return dataset.map(named, remove_columns=dataset.column_names)


def answered(dataset: Any) -> Any:
    """Choose the questions that have an answer: three collections lack them for copyright."""
    return dataset.filter(lambda row: bool(row["answer"]))


def compared(doc: Mapping[str, str], texts: Sequence[str]) -> dict[str, float]:
    """Compute ROUGE-L with the institute's answer."""
    return {"rougeL": rouge_l(doc["answer"], texts[0])}
