"""PubMedQA, PQA-L: does an abstract answer its title's question? (Jin et al. 2019, arXiv:1909.06146)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_json


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of bigbio/pubmed_qa, pubmed_qa_labeled_fold0_source: QUESTION, CONTEXTS, final_decision.

    `test` are the 500 items of the official test; the other 500 are `train`.
    """
    del part
    items: Mapping[str, Any] = read_json(files["items"])
    official: Mapping[str, str] = read_json(files["test"])
    strange = [pmid for pmid, decision in official.items() if _decision(items.get(pmid)) != decision]
    if strange:
        raise DataError(
            f"{files['items']} and {files['test']} disagree on {len(strange)} items: {strange[0]} …"
        )
    splits: dict[str, Rows] = {"train": [], "test": []}
    for pmid, item in items.items():
        splits["test" if pmid in official else "train"].append(_row(item))
    return splits


def _decision(item: Mapping[str, Any] | None) -> str | None:
    return None if item is None else item["final_decision"]


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    return {column: item[column] for column in ("QUESTION", "CONTEXTS", "final_decision")}


SOURCE = Source(
    name="pubmedqa",
    title="PubMedQA (PQA-L)",
    licence="MIT",
    origin="https://github.com/pubmedqa/pubmedqa, data; Jin et al. 2019, arXiv:1909.06146",
    files={"items": "ori_pqal.json", "test": "test_ground_truth.json"},
    read=read,
)
