"""FiQA-SA: sentiment of financial posts and headlines (Maia et al. 2018, WWW), in FLARE's three classes."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.flare import ORIGIN, Conversation, conversations

LABELS = ("negative", "positive", "neutral")
_KINDS = ("post", "headline")
_INSTRUCTIONS = tuple(
    f"What is the sentiment of the following financial {kind}: Positive, Negative, or Neutral?"
    for kind in _KINDS
)


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of TheFinAI/flare-fiqasa: query, text, answer, choices, gold (index of the label)."""
    return {split: [_row(one) for one in conversations(file, _INSTRUCTIONS)] for split, file in files.items()}


def _row(one: Conversation) -> dict[str, object]:
    label = one.answer.lower()
    if label not in LABELS:
        raise DataError(f"the sentiment of {one.text!r} is {one.answer!r}, not one of {', '.join(LABELS)}")
    return {
        "query": one.query,
        "text": one.text,
        "answer": label,
        "choices": list(LABELS),
        "gold": LABELS.index(label),
    }


SOURCE = Source(
    name="fiqa_sa",
    title="FiQA-SA in FLARE's form",
    licence="public, says FLARE",
    origin=f"Maia et al. 2018, WWW'18 Open Challenge; {ORIGIN}",
    files={split: f"fiqasa_{split}.jsonl" for split in ("train", "valid", "test")},
    read=read,
)
