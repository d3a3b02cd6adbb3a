"""Refine a passage by a small program that a model writes (ProX, arXiv 2409.17115).

A program is data: its lines are matched with four forms and never run. One line of another form, or one that
does not fit the passage, refuses all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_DELETE = re.compile(r"delete\s+(\d{1,5})(?:\s*[-–]\s*(\d{1,5}))?")  # noqa: RUF001 - a dash of texts
_REPLACE = re.compile(r'replace\s+(\d{1,5})\s*:\s*"(?P<old>.+?)"\s*->\s*"(?P<new>.*)"')
_MOST_LINES = 200
"""Most lines of a program; one with more has lost its way."""

_LONGER = 8
"""Characters by which a correction may be longer than the text that it replaces: it adds no content."""


class ProgramError(ValueError):
    """A program that is refused.

    Attributes:
        reason: Key of the reason, as it is counted.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Program:
    """Edits of a passage's lines.

    Attributes:
        drop: Whether nothing of it is worth reading.
        deleted: First and last number of lines that are left out.
        replaced: Number of a line, text in it, and the text in its place.
    """

    drop: bool = False
    deleted: list[tuple[int, int]] = field(default_factory=list)
    replaced: list[tuple[int, str, str]] = field(default_factory=list)


def numbered(text: str) -> str:
    """Return a text with a number in front of every line, from 1 on."""
    return "\n".join(f"{number}| {line}" for number, line in enumerate(text.split("\n"), start=1))


def parse_program(text: str) -> Program:
    """Read a program.

    Raises:
        ProgramError: A line is no command, or commands contradict each other.
    """
    lines = [line.strip().strip("`").strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    if not lines or len(lines) > _MOST_LINES:
        raise ProgramError("no_program", f"{len(lines)} lines")
    program, alone = Program(drop=lines == ["drop"]), lines in (["drop"], ["keep"])
    for line in [] if alone else lines:
        if deletes := _DELETE.fullmatch(line):
            first = int(deletes[1])
            program.deleted.append((first, int(deletes[2] or first)))
        elif replaces := _REPLACE.fullmatch(line):
            program.replaced.append((int(replaces[1]), replaces["old"], replaces["new"]))
        elif line in ("keep", "drop"):
            raise ProgramError("contradiction", f"{line} stands beside other commands")
        else:
            raise ProgramError("unknown_operation", line[:80])
    return program


def refined(text: str, program: Program) -> str:
    """Return a text without the lines that a program deletes, and corrected; empty if it is dropped.

    Raises:
        ProgramError: A number is no line's, or a text to replace does not stand in its line, stands there
            twice, or would grow.
    """
    if program.drop:
        return ""
    lines: list[str | None] = list(text.split("\n"))

    def at(number: int) -> int:
        if not 1 <= number <= len(lines):
            raise ProgramError("line_out_of_range", f"line {number} of {len(lines)}")
        return number - 1

    for number, old, new in program.replaced:
        line = lines[at(number)] or ""
        if line.count(old) != 1:
            raise ProgramError("text_not_found", f"{old[:80]!r} in line {number}")
        if len(new) > len(old) + _LONGER:
            raise ProgramError("adds_text", f"{new[:80]!r} for {old[:80]!r}")
        lines[number - 1] = line.replace(old, new)
    for first, last in program.deleted:
        if last < first:
            raise ProgramError("line_out_of_range", f"lines {first}-{last}")
        lines[at(first) : at(last) + 1] = [None] * (last - first + 1)
    return "\n".join(line for line in lines if line is not None).strip()
