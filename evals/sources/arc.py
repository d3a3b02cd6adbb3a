"""ARC: grade-school science questions, `easy` or `challenge` (Clark et al. 2018, arXiv:1803.05457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.sources.base import Files, Rows, Source
from evals.sources.reading import labelled_choices, read_jsonl

_QUESTION = "Question: "


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of allenai/ai2_arc: question, choices (text, label), answerKey.

    The files give every item four choices: those of three repeat one, which is dropped again; of the few
    that had five, one is not there.
    """
    del part  # of the files' names only
    return {split: [_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    choices = list(dict.fromkeys(item["choices"]))
    right = choices.index(item["choices"][item["gold"]])
    return {"question": item["query"].removeprefix(_QUESTION), **labelled_choices(choices, right)}


SOURCE = Source(
    name="arc",
    title="ARC",
    licence="CC BY-SA 4.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Clark et al. 2018, arXiv:1803.05457",
    files={"test": "arc_{part}.jsonl"},
    read=read,
)
