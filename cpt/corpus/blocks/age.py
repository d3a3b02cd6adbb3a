"""Remove documents from before or after given years."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cpt.corpus.blocks.block import Block, Cleaner, Unknown
from cpt.corpus.documents import Document, Removed

_YEAR = re.compile(r"(?<!\d)((?:1[4-9]|20)\d\d)(?:(\d\d)(\d\d))?(?!\d)")
"""A year, or a date of eight digits (ISO 8601, basic format)."""


class Age(Block):
    """Documents outside a span of years.

    Text of another time than that of a model's use costs ability (Longpre et al., arXiv 2305.13169), and
    superseded guidelines, statutes and rates are wrong. The year is taken from a field of the document's
    record, or from a place in its text that a pattern names. Years that a text merely mentions say little
    about its age, so there is no guess.
    """

    judges_by: ClassVar[str] = "year"

    kind: Literal["age"] = "age"
    first: int | None = Field(default=None, ge=1400, le=2099, description="First year that is kept.")
    last: int | None = Field(default=None, ge=1400, le=2099, description="Last year that is kept.")
    field: str | None = Field(
        default=None,
        min_length=1,
        description="Field of the record, kept as metadata, that holds the date; its first year from 1400 to "
        "2099 is the document's, alone or in a date such as 2018-01-31 or 20180131.",
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        description='Regular expression whose first match in the text holds the date, such as "Decided: .*"; '
        "used if the field gives none.",
    )
    unknown: Literal["keep", "remove"] = Field(
        default="keep",
        description="Treatment of documents without a year. Those that are kept are counted; if no document "
        "has a year, the stage fails.",
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _complete(self) -> Age:
        if self.field is None and self.pattern is None:
            raise ValueError("give a field, a pattern, or both")
        if self.first is None and self.last is None:
            raise ValueError("give first, last, or both")
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError(f"first ({self.first}) is after last ({self.last})")
        return self

    def prepare(self) -> Cleaner:
        pattern = re.compile(self.pattern) if self.pattern else None

        def clean(document: Document) -> Document | Removed | Unknown:
            year = _in_metadata(document.metadata, self.field)
            if year is None and pattern and (match := pattern.search(document.text)):
                year = _year(match.group())
            if year is None:
                return Unknown(document) if self.unknown == "keep" else self.removed(document, "no year")
            early = self.first is not None and year < self.first
            late = self.last is not None and year > self.last
            return self.removed(document, str(year)) if early or late else document

        return clean


def _in_metadata(metadata: Mapping[str, Any] | None, field: str | None) -> int | None:
    value = (metadata or {}).get(field) if field else None
    return _year(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _year(text: str) -> int | None:
    """Return the first year from 1400 to 2099 in a text; None without any."""
    for match in _YEAR.finditer(text):
        year, month, day = match.groups()
        if month is None or _is_date(int(year), int(month), int(day)):
            return int(year)
    return None


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
