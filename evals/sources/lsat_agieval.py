"""LSAT of AGIEval: `ar`, `lr` or `rc` of the law school admission test (Zhong et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl

_LETTERS = ("A", "B", "C", "D", "E")


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of hails/agieval-lsat-*: query (AGIEval's zero-shot prompt), choices, gold."""
    del part  # of the files' names only
    return {split: [_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    options = item["options"]
    if item["label"] not in _LETTERS[: len(options)]:
        raise DataError(f"the answer of {item['question']!r} is {item['label']!r}, not one of its options")
    query = (
        f"{item['passage'] or ''}Q: {item['question']} Answer Choices: {' '.join(options)}\n"
        f"A: Among A through {_LETTERS[len(options) - 1]}, the answer is"
    )
    return {"query": query, "choices": options, "gold": [_LETTERS.index(item["label"])]}


SOURCE = Source(
    name="lsat_agieval",
    title="LSAT of AGIEval",
    licence="MIT",
    origin="https://github.com/ruixiangcui/AGIEval, data; Zhong et al. 2023, arXiv:2304.06364",
    files={"test": "lsat-{part}.jsonl"},
    read=read,
)
