"""WinoGrande: who or what a sentence speaks of (Sakaguchi et al. 2019, arXiv:1907.10641)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of allenai/winogrande: sentence (with a blank `_`), option1, option2, answer ("1" or "2").

    The files give each sentence up to the blank with either option in it; what both share is put before
    the blank.
    """
    del part
    return {split: [_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _row(item: Mapping[str, Any]) -> dict[str, str]:
    first, second = item["context_options"]
    differ = next(
        (at for at, pair in enumerate(zip(first, second, strict=False)) if len(set(pair)) > 1), None
    )
    start = first[: first[:differ].rfind(" ") + 1]
    return {
        "sentence": f"{start}_ {item['continuation']}",
        "option1": first[len(start) :],
        "option2": second[len(start) :],
        "answer": str(item["gold"] + 1),
    }


SOURCE = Source(
    name="winogrande",
    title="WinoGrande",
    licence="CC BY 4.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Sakaguchi et al. 2019, arXiv:1907.10641",
    files={"validation": "winogrande.jsonl"},
    read=read,
)
