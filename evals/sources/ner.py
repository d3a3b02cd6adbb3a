"""NER: persons, organisations and places in loan agreements (Salinas Alvarado et al. 2015, ALTA)."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.flare import ORIGIN, Conversation, conversations

_INSTRUCTION = (
    "In the sentences extracted from financial agreements in U.S. SEC filings, identify the named entities "
    "that represent a person ('PER'), an organization ('ORG'), or a location ('LOC'). "
    "The required answer format is:"
)


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of TheFinAI/flare-ner: query, text, answer, label (one BIO tag for each word of the text)."""
    return {
        split: [_row(one) for one in conversations(file, [_INSTRUCTION])] for split, file in files.items()
    }


def _row(one: Conversation) -> dict[str, object]:
    text, tags = one.row.get("text"), one.row.get("label")
    if not isinstance(text, str) or not isinstance(tags, list) or len(text.split()) != len(tags):
        raise DataError(f"not a text with one tag for each of its words: {one.query[-80:]!r}")
    return {"query": one.query, "text": text, "answer": one.answer, "label": [str(tag) for tag in tags]}


SOURCE = Source(
    name="ner",
    title="NER of SEC filings in FLARE's form",
    licence="CC BY-SA 3.0, says FLARE",
    origin=f"Salinas Alvarado et al. 2015, ALTA; {ORIGIN}",
    files={split: f"ner_{split}.jsonl" for split in ("valid", "test")},
    read=read,
)
