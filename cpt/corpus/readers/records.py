"""Turn a record (a JSON object, a row) into a document: its text or conversation, and the fields to keep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cpt.corpus.documents import Document, Item, Removed, json_value
from cpt.corpus.readers.files import listed, nearest, quoted, shown
from cpt.errors import Problem, SourceError

if TYPE_CHECKING:
    from cpt.corpus.readers.conversations import Conversations

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Fields:
    """The fields of records that are read.

    Attributes:
        text: Field that holds the text.
        metadata: Fields kept in `Document.metadata`; a record without one keeps null.
        chat: Reader of conversations; it replaces the text.
    """

    text: str = "text"
    metadata: tuple[str, ...] = ()
    chat: Conversations | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """Return the fields without which a record is no document."""
        return (self.text,) if self.chat is None else self.chat.fields

    @property
    def all(self) -> list[str]:
        """Return every field that is read, once."""
        return list(dict.fromkeys([*self.needed, *self.metadata]))

    def item(self, id: str, record: Mapping[str, Any]) -> Item | Problem:
        """Return a record as a document; "empty" if its text is null.

        Args:
            id: Place of the record.
        """
        for name in self.needed:
            if name not in record:
                return self._missing(name, record)
        if self.chat is not None:
            found = self.chat.item(id, record)
        else:
            text = _checked(self.text, record[self.text])
            if isinstance(text, Problem):
                return text
            found = Removed(id, "empty") if text is None else Document(id, text)
        if self.metadata and isinstance(found, Document):
            kept = kept_fields(self.metadata, record)
            if isinstance(kept, Problem):
                return kept
            return replace(found, metadata=kept)
        return found

    def require(self, names: Iterable[str], texts: list[str], place: str) -> None:
        """Raise unless the columns of a table hold every field.

        Args:
            names: Columns.
            texts: Columns that hold text.
            place: File and kind of place, for messages.

        Raises:
            SourceError: A column is missing.
        """
        columns = list(names)
        for name in self.all:
            if name not in columns:
                near = nearest(name, columns) or (texts if name == self.text else [])
                raise SourceError(
                    f"{place}: no column {quoted(name)}; its columns are: {listed(columns)}",
                    hint=self._hint(name, near),
                )

    def _missing(self, name: str, record: Mapping[str, Any]) -> Problem:
        texts = [field for field, value in record.items() if isinstance(value, str)]
        near = nearest(name, record) or (texts if name == self.text else [])
        return Problem(
            f"no field {quoted(name)}; its fields are: {listed(record)}", hint=self._hint(name, near)
        )

    def _hint(self, name: str, near: list[str]) -> str | None:
        if not near:
            return None
        if name == self.text and self.chat is None:
            return f"Set text_field: {shown(near[0])} if that is the text."
        return f"Did you mean {shown(near[0])}?"


class SeenFields:
    """The fields of metadata that any record of a source had, so that a misspelt one is noticed."""

    def __init__(self, fields: Fields) -> None:
        self._missing = set(fields.metadata)
        self._names: list[str] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Note the fields of a record."""
        if self._missing:
            self._names = self._names or list(record)
            self._missing.difference_update(record)

    def problem(self) -> Problem | None:
        """Return a problem if no record had one of the fields, and there were records."""
        if not self._missing or not self._names:
            return None
        return Problem(
            f"no record has the field {quoted(min(self._missing))} of `metadata`; the first one's fields "
            f"are: {listed(self._names)}"
        )


def kept_fields(names: Iterable[str], record: Mapping[str, Any]) -> dict[str, Any] | Problem:
    """Return fields of a record as JSON values; null for those that it lacks."""
    kept = {}
    for name in names:
        try:
            kept[name] = json_value(record.get(name))
        except RecursionError:
            return too_deep(name)
    return kept


def too_deep(name: str) -> Problem:
    """Return the problem of a field with lists in lists in lists."""
    return Problem(f"field {quoted(name)} is nested too deeply")


def _checked(name: str, text: Any) -> str | Problem | None:
    if text is None:
        return None
    if not isinstance(text, str):
        return Problem(f"field {quoted(name)} holds {json_type(text)}, not text")
    if is_broken(text):
        return Problem(f"field {quoted(name)} holds half of a surrogate pair, which is not a character")
    return text


def is_broken(text: str) -> bool:
    """Return True if a text holds half of a surrogate pair, which UTF-8 cannot hold."""
    return not text.isascii() and _HALF_A_PAIR.search(text) is not None


def json_type(value: object) -> str:
    """Name the type of a JSON value: "a number"."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
