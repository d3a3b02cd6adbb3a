"""OpenBookQA: elementary science questions (Mihaylov et al. 2018, arXiv:1809.02789)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import labelled_choices, read_jsonl


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of allenai/openbookqa, main: question_stem, choices (text, label), answerKey."""
    del part
    return {split: [_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    return {"question_stem": item["query"], **labelled_choices(item["choices"], item["gold"])}


SOURCE = Source(
    name="openbookqa",
    title="OpenBookQA",
    licence="Apache-2.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Mihaylov et al. 2018, arXiv:1809.02789",
    files={"test": "openbook_qa.jsonl"},
    read=read,
)
