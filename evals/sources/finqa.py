"""FinQA: calculations over a table and the text around it (Chen et al. 2021, arXiv:2109.00122)."""

from __future__ import annotations

from collections.abc import Mapping

from evals.sources.base import Files, Rows, Source
from evals.sources.flare import ORIGIN, conversations

_INSTRUCTION = "Please answer the given financial question based on the context."


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of TheFinAI/flare-finqa: query, text, answer (the result of the annotated calculation).

    FLARE's validation file (FinQA's 883 of dev) stands in for the test split, which is not in this form.
    """
    found = conversations(files["valid"], [_INSTRUCTION])
    return {"test": [{"query": one.query, "text": one.text, "answer": one.answer} for one in found]}


SOURCE = Source(
    name="finqa",
    title="FinQA in FLARE's form, validation split",
    licence="MIT",
    origin=f"Chen et al. 2021, arXiv:2109.00122; {ORIGIN}",
    files={"valid": "FinQA_valid.jsonl"},
    read=read,
)
