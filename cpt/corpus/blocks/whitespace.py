"""Clean white space: line ends, spaces at the ends of lines, runs of spaces and of empty lines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.documents import Document

_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_SPACES = re.compile(r"[^\S\n]+")
_INDENT = re.compile(r"^[ \t]*")


class Whitespace(Block):
    """Uniform white space. Indentation stays, since code and lists mean something by it."""

    kind: Literal["whitespace"] = "whitespace"
    empty_lines: int = Field(default=1, ge=0, description="Most empty lines in a row.")

    def prepare(self) -> Cleaner:
        most = self.empty_lines + 1
        runs = re.compile(r"\n{%d,}" % (most + 1))  # noqa: UP031 - braces of a quantifier

        def clean(document: Document) -> Document:
            lines = _LINE_ENDS.sub("\n", document.text).split("\n")
            text = runs.sub("\n" * most, "\n".join(map(_clean_line, lines))).strip("\n")
            return document if text == document.text else replace(document, text=text)

        return clean


def _clean_line(line: str) -> str:
    """Return a line with single spaces, its indentation kept and nothing after the last word."""
    words = _SPACES.sub(" ", line).strip()
    return _INDENT.match(line).group() + words if words else ""  # type: ignore[union-attr]
