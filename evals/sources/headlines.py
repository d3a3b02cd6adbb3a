"""Headlines: nine yes/no questions on headlines about gold (Sinha and Khandait 2021, arXiv:2009.04202)."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.flare import ORIGIN, Conversation, conversations

TAGS = (
    "Price or Not",
    "Direction Up",
    "Direction Down",
    "Direction Constant",
    "PastPrice",
    "FuturePrice",
    "PastNews",
    "FutureNews",
    "Asset Comparision",
)
CHOICES = ("Yes", "No")
EXAMPLES = 20
"""Headlines at the head of the file that are examples."""
_BEGINNINGS = ("Consider ", "Look for ")


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of TheFinAI/flare-headlines: query, text, answer, label_type, choices, gold (0 for Yes).

    FLARE's validation file stands in for the test split, which its repository has not in this form: its first
    headlines are examples, about the others it is asked.
    """
    rows = [_row(one) for one in conversations(files["valid"], _BEGINNINGS)]
    headlines = list(dict.fromkeys(str(row["text"]) for row in rows))
    examples = set(headlines[:EXAMPLES])
    return {
        "train": [row for row in rows if row["text"] in examples],
        "test": [row for row in rows if row["text"] not in examples],
    }


def _row(one: Conversation) -> dict[str, object]:
    instruction, _, _ = one.query.partition("\nText:")
    tags = [tag for tag in TAGS if tag in instruction]
    if len(tags) != 1 or one.answer not in CHOICES:
        raise DataError(
            f"not a yes/no question on one of the nine tags: {one.query!r}, answer {one.answer!r}"
        )
    return {
        "query": one.query,
        "text": one.text,
        "answer": one.answer,
        "label_type": tags[0],
        "choices": list(CHOICES),
        "gold": CHOICES.index(one.answer),
    }


SOURCE = Source(
    name="headlines",
    title="Headlines (gold commodity news) in FLARE's form, validation split",
    licence="CC BY-SA 3.0, says FLARE",
    origin=f"Sinha and Khandait 2021, arXiv:2009.04202; {ORIGIN}",
    files={"valid": "headlines_valid.jsonl"},
    read=read,
)
