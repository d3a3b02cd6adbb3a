"""LAMBADA: the last word of a passage, in OpenAI's version (Paperno et al. 2016, arXiv:1606.06031)."""

from __future__ import annotations

from collections.abc import Mapping

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Column of EleutherAI/lambada_openai: text."""
    del part
    return {
        split: [{"text": f"{item['context']} {item['continuation']}"} for item in read_jsonl(file)]
        for split, file in files.items()
    }


SOURCE = Source(
    name="lambada",
    title="LAMBADA",
    licence="CC BY 4.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Paperno et al. 2016, arXiv:1606.06031; OpenAI's version, Radford et al. 2019",
    files={"test": "lambada_openai.jsonl"},
    read=read,
)
