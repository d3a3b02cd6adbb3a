"""Remove documents by a score that their records bring."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cpt.corpus.blocks.block import Block, Cleaner, Unknown
from cpt.corpus.documents import Document, Removed


class Quality(Block):
    """Documents whose score is outside a range.

    The score comes from the record, such as `score` of FineWeb-Edu. Longpre et al. (arXiv 2305.13169) use a
    classifier that is not published, and none is made up for it here.
    """

    judges_by: ClassVar[str] = "score"

    kind: Literal["quality"] = "quality"
    field: str = Field(
        min_length=1, description="Field of the record, kept as metadata, that holds a number."
    )
    min: float | None = Field(default=None, description="Smallest score that is kept.")
    max: float | None = Field(default=None, description="Largest score that is kept.")
    unknown: Literal["keep", "remove"] = Field(
        default="remove", description="Treatment of documents without a score."
    )

    @model_validator(mode="after")
    def _complete(self) -> Quality:
        if self.min is None and self.max is None:
            raise ValueError("give min, max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g})")
        return self

    def prepare(self) -> Cleaner:
        lowest = -math.inf if self.min is None else self.min
        highest = math.inf if self.max is None else self.max

        def clean(document: Document) -> Document | Removed | Unknown:
            score = _number((document.metadata or {}).get(self.field))
            if score is None:
                return Unknown(document) if self.unknown == "keep" else self.removed(document, "no score")
            return document if lowest <= score <= highest else self.removed(document, f"{score:g}")

        return clean


def _number(value: object) -> float | None:
    """Return a number, also one that is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
