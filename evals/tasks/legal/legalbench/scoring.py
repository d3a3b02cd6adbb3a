"""Scoring of LegalBench's tasks, after its evaluation.py (HazyResearch/legalbench)."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.answers import rouge_l

Choices = Sequence[tuple[float, bool]]
Values = dict[str, Any]

_WITHIN = 0.1
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def choosing(labels: Sequence[str]) -> Callable[[Mapping[str, str], Choices], Values]:
    """Scores by the likelihoods of labels, in their order: which is chosen, and whether it is the answer."""

    def score(doc: Mapping[str, str], choices: Choices) -> Values:
        likelihoods = [likelihood for likelihood, _ in choices]
        chosen = likelihoods.index(max(likelihoods))
        right = labels.index(doc["answer"])
        return {"balanced_accuracy": (right, chosen), "acc": float(chosen == right)}

    return score


yes_no = choosing(["Yes", "No"])
entailment = choosing(["Entailment", "Contradiction"])
rule = choosing(["trademarks", "hearsay", "personal jurisdiction"])
unfair_term = choosing(
    [
        "Arbitration",
        "Unilateral change",
        "Content removal",
        "Jurisdiction",
        "Choice of law",
        "Limitation of liability",
        "Unilateral termination",
        "Contract by using",
        "Other",
    ]
)


def written_label(doc: Mapping[str, str], texts: Sequence[str]) -> Values:
    """Compare the written label with the right one, without case, punctuation and spaces around."""
    right, said = _normalised(doc["answer"]), _normalised(texts[0])
    return {"balanced_accuracy": (right, said), "exact_match": float(right == said)}


def amount(doc: Mapping[str, str], texts: Sequence[str]) -> Values:
    """Whether the first number of the answer is within a tenth of the right one."""
    found = re.search(r"\d+", texts[0].replace(",", "").replace(".", ""))
    said = int(found.group()) if found else 0
    right = int(doc["answer"].replace("$", ""))
    return {"acc": float(abs(said / (right + 0.1) - 1) < _WITHIN)}


def written_rule(doc: Mapping[str, str], texts: Sequence[str]) -> Values:
    """ROUGE-L with the rule as experts state it; the paper has people judge."""
    return {"rougeL": rouge_l(doc["answer"], texts[0])}


def distinct(dataset: Any) -> Any:
    """Items without those that the data repeat."""
    seen: dict[tuple[Any, ...], int] = {}
    for place, row in enumerate(dataset):
        seen.setdefault(tuple(row[column] for column in _said(row)), place)
    return dataset.select(sorted(seen.values()))


def statements(dataset: Any) -> Any:
    """The entailments of SARA, which early files mix with amounts."""
    return dataset.filter(lambda row: not row["answer"].startswith("$"))


def amounts(dataset: Any) -> Any:
    """The amounts of SARA, which early files mix with entailments."""
    return dataset.filter(lambda row: row["answer"].startswith("$"))


def _normalised(text: str) -> str:
    return text.translate(_NO_PUNCTUATION).strip().lower()


def _said(row: Mapping[str, Any]) -> list[str]:
    """The columns that an item consists of; others number it or name its document."""
    return [column for column in row if column not in {"index", "document_name"}]
