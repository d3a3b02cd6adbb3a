"""PubMedQA, PQA-L: does an abstract answer its title's question? (Jin et al. 2019, arXiv:1909.06146)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_json


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of qiaojin/PubMedQA, pqa_labeled: pubid, question, context, final_decision; one split of all.

    The task itself chooses the items of the official test.
    """
    del part
    items: Mapping[str, Mapping[str, Any]] = read_json(files["items"])
    return {"train": [_row(pmid, item) for pmid, item in items.items()]}


def _row(pmid: str, item: Mapping[str, Any]) -> dict[str, object]:
    return {
        "pubid": int(pmid),
        "question": item["QUESTION"],
        "context": {"contexts": item["CONTEXTS"]},
        "final_decision": item["final_decision"],
    }


SOURCE = Source(
    name="pubmedqa",
    title="PubMedQA (PQA-L)",
    licence="MIT",
    origin="https://github.com/pubmedqa/pubmedqa, data; Jin et al. 2019, arXiv:1909.06146",
    files={"items": "ori_pqal.json"},
    read=read,
    version=2,
)
