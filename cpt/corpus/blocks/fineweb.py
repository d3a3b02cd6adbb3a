"""Remove documents by the rules of FineWeb (Penedo et al., arXiv 2406.17557)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.blocks.filters import by_filters, splitter

_Share = Annotated[float, Field(ge=0, le=1)]


class FineWeb(Block):
    """Rules for pages of the web that are lists rather than prose; null turns one off."""

    kind: Literal["fineweb"] = "fineweb"
    min_punctuated_lines: _Share | None = Field(
        default=0.12, description="Smallest share of lines that end in a punctuation mark."
    )
    max_short_lines: _Share | None = Field(default=0.67, description="Largest share of short lines.")
    short_line: int = Field(default=30, ge=1, description="Most characters of a short line.")
    max_repeated_characters: _Share | None = Field(
        default=0.01, description="Largest share of characters in repeated lines."
    )
    max_line_breaks: float | None = Field(
        default=0.3, ge=0, description="Most line breaks per word, with punctuation."
    )

    def prepare(self) -> Cleaner:
        from datatrove.pipeline.filters import FineWebQualityFilter

        def most(limit: float | None) -> float:
            return math.inf if limit is None else limit

        rules = FineWebQualityFilter(
            line_punct_thr=self.min_punctuated_lines or 0.0,
            short_line_thr=most(self.max_short_lines),
            short_line_length=self.short_line,
            char_duplicates_ratio=most(self.max_repeated_characters),
            new_line_ratio=most(self.max_line_breaks),
            language=splitter(),
        )
        return by_filters(self, lambda _: [rules])
