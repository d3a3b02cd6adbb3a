"""Compile the regular expressions of pre-tokenizers to instructions that are followed character by character.

An expression is taken apart as far as its single characters. These ("atoms": a class, a property, a letter)
stay as they are written, and the tokenizer's own engine says which characters they match
(`tokenizer_tools.canonical.characters`). Alternatives are tried in their order, as engines that backtrack do.

Source of the instructions: Thompson 1968, "Regular expression search algorithm", with priorities (Pike's
virtual machine).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cpt.errors import DataError

_ESCAPED_CLASS = re.compile(
    r"\\[pP]\{\^?\w+\}|\\x\{[0-9A-Fa-f]+\}|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\.", re.DOTALL
)
_NO_CHARACTER = re.compile(r"\\[bBAzZGkKRXQEN1-9g]")
_COUNTS = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_MOST = 4096
"""Instructions of the longest expression that is followed."""


@dataclass(frozen=True)
class Read:
    """Read a character that an atom matches."""

    atom: str
    then: int


@dataclass(frozen=True)
class Fork:
    """Try one instruction, then another."""

    first: int
    second: int


@dataclass(frozen=True)
class Look:
    """Go on if the next character matches an atom; with `negative` if it does not, or the text ends."""

    atom: str
    negative: bool
    then: int


@dataclass(frozen=True)
class Match:
    """End of the expression."""


Instruction = Read | Fork | Look | Match


@dataclass(frozen=True)
class Pattern:
    """A compiled expression.

    Attributes:
        instructions: Instructions, which name each other by index.
        start: Index of the first one.
    """

    instructions: tuple[Instruction, ...]
    start: int

    @property
    def atoms(self) -> set[str]:
        """Return the atoms that it reads or looks at."""
        return {each.atom for each in self.instructions if isinstance(each, Read | Look)}


def compile_pattern(source: str) -> Pattern:
    """Compile a regular expression.

    Raises:
        DataError: It uses something that is not followed: anchors, references, long lookahead, lookbehind.
    """
    tree = _Parser(source).parse()
    return _Compiler(source).compile(tree)


def single(atom: str, *, repeated: bool) -> Pattern:
    """Return the expression of one atom, or of as many as there are in a row."""
    return Pattern((Match(), Read(atom, 2 if repeated else 0), Fork(1, 0)), 1)


@dataclass(frozen=True)
class _Atom:
    source: str


@dataclass(frozen=True)
class _Ahead:
    atom: str
    negative: bool


@dataclass(frozen=True)
class _All:
    parts: tuple[_Tree, ...]


@dataclass(frozen=True)
class _Any:
    ways: tuple[_Tree, ...]


@dataclass(frozen=True)
class _Repeat:
    part: _Tree
    least: int
    most: int | None
    counted: bool
    possessive: bool


_Tree = _Atom | _Ahead | _All | _Any | _Repeat


def _refused(source: str, reason: str) -> DataError:
    return DataError(
        f"the pre-tokenizer's expression {source[:80]!r} cannot be followed: {reason}",
        hint="Exact probabilities of bytes are known for expressions of classes, groups, repetitions and "
        "one character of lookahead, as most tokenizers have.",
    )


class _Parser:
    """Recursive descent over an expression."""

    def __init__(self, source: str) -> None:
        self._source, self._at, self._flags = source, 0, ""

    def parse(self) -> _Tree:
        tree = self._ways()
        if self._at < len(self._source):
            raise self._error("a parenthesis is not opened")
        return tree

    def _error(self, reason: str) -> DataError:
        return _refused(self._source, reason)

    def _takes(self, text: str) -> bool:
        found = self._source.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def _ways(self) -> _Tree:
        ways = [self._sequence()]
        while self._takes("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else _Any(tuple(ways))

    def _sequence(self) -> _Tree:
        parts = []
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            parts.append(self._repeated(self._part()))
        return parts[0] if len(parts) == 1 else _All(tuple(parts))

    def _part(self) -> _Tree:
        if self._takes("(?!"):
            return self._ahead(negative=True)
        if self._takes("(?="):
            return self._ahead(negative=False)
        if self._takes("(?i:"):
            outer, self._flags = self._flags, "(?i)"
            tree = self._group()
            self._flags = outer
            return tree
        if self._takes("(?:"):
            return self._group()
        if self._takes("(?>"):
            return self._kept()
        if self._takes("(?"):
            raise self._error("it has a group of a special kind")
        if self._takes("("):
            return self._group()
        return _Atom(self._atom())

    def _group(self) -> _Tree:
        tree = self._ways()
        if not self._takes(")"):
            raise self._error("a parenthesis is not closed")
        return tree

    def _kept(self) -> _Tree:
        tree = self._group()
        if not isinstance(tree, _Repeat) or not isinstance(tree.part, _Atom) or tree.counted:
            raise self._error("it has a group that gives nothing back")
        return replace(tree, possessive=True)

    def _ahead(self, negative: bool) -> _Tree:
        tree = self._group()
        ways = tree.ways if isinstance(tree, _Any) else (tree,)
        atoms = [way.source for way in ways if isinstance(way, _Atom)]
        if len(atoms) < len(ways):
            raise self._error("it looks ahead further than one character")
        return _Ahead(atoms[0] if len(atoms) == 1 else f"(?:{'|'.join(atoms)})", negative)

    def _atom(self) -> str:
        start = self._at
        character = self._source[start]
        if character == "[":
            self._at = self._end_of_class(start)
        elif character == "\\":
            found = _ESCAPED_CLASS.match(self._source, start)
            if found is None or _NO_CHARACTER.match(found[0]):
                raise self._error(f"it has {self._source[start : start + 2]!r}")
            self._at = found.end()
        elif character in "^$*+?{":
            raise self._error(f"it has {character!r} where a character was expected")
        else:
            self._at += 1
        return self._flags + self._source[start : self._at]

    def _end_of_class(self, start: int) -> int:
        depth, at = 0, start
        while at < len(self._source):
            character = self._source[at]
            if character == "\\":
                at += 1
            elif character == "[":
                depth += 1
                at += self._source.startswith("[^", at)
                at += self._source.startswith("]", at + 1)  # the first one is a character
            elif character == "]":
                depth -= 1
                if not depth:
                    return at + 1
            at += 1
        raise self._error("a bracket is not closed")

    def _repeated(self, part: _Tree) -> _Tree:
        found = self._counts()
        if found is None:
            return part
        least, most, counted = found
        if isinstance(part, _Ahead):
            raise self._error("it repeats a lookahead")
        if self._takes("?"):
            raise self._error("it has a repetition that takes as little as it can")
        possessive = self._takes("+")
        if possessive and (counted or not isinstance(part, _Atom)):
            raise self._error("it has a group that gives nothing back")
        if self._counts() is not None:
            raise self._error("it repeats a repetition")
        return _Repeat(part, least, most, counted, possessive)

    def _counts(self) -> tuple[int, int | None, bool] | None:
        for sign, least, most in (("?", 0, 1), ("*", 0, None), ("+", 1, None)):
            if self._takes(sign):
                return least, most, False
        found = _COUNTS.match(self._source, self._at)
        if found is None:
            return None
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        return least, most, True


class _Compiler:
    """Translation of a tree to instructions, from its end to its beginning."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._made: list[Instruction] = [Match()]

    def compile(self, tree: _Tree) -> Pattern:
        start = self._of(tree, 0)
        found = Pattern(tuple(self._made), start)
        if _matches_nothing(found):
            raise _refused(self._source, "it matches the empty text")
        return found

    def _add(self, instruction: Instruction) -> int:
        self._made.append(instruction)
        if len(self._made) > _MOST:
            raise _refused(self._source, "it is too long")
        return len(self._made) - 1

    def _of(self, tree: _Tree, then: int) -> int:
        """Return the index of the first instruction of a tree that is followed by another one."""
        if isinstance(tree, _Atom):
            return self._add(Read(tree.source, then))
        if isinstance(tree, _Ahead):
            return self._add(Look(tree.atom, tree.negative, then))
        if isinstance(tree, _All):
            for part in reversed(tree.parts):
                then = self._of(part, then)
            return then
        if isinstance(tree, _Any):
            first, *others = [self._of(way, then) for way in tree.ways]
            return self._first_of([first, *others])
        return self._repeat(tree, then)

    def _first_of(self, ways: list[int]) -> int:
        *others, found = ways
        for way in reversed(others):
            found = self._add(Fork(way, found))
        return found

    def _repeat(self, tree: _Repeat, then: int) -> int:
        leave = then
        if tree.possessive:
            assert isinstance(tree.part, _Atom)
            leave = self._add(Look(tree.part.source, negative=True, then=then))
        if tree.most is None:
            loop = self._add(Match())  # its place is known before what it refers to
            self._made[loop] = Fork(self._of(tree.part, loop), leave)
            found = loop
        else:
            found = then  # after the last repetition nothing is looked at
            for _ in range(tree.most - tree.least):
                found = self._add(Fork(self._of(tree.part, found), leave))
        for _ in range(tree.least):
            found = self._of(tree.part, found)
        return found


def _matches_nothing(pattern: Pattern) -> bool:
    """Return True if the expression may match without reading a character."""
    return any(isinstance(pattern.instructions[each], Match) for each in _reached(pattern))


def _reached(pattern: Pattern) -> Iterator[int]:
    """Yield the instructions that may be reached before a character is read."""
    waiting, seen = [pattern.start], set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        yield index
        found = pattern.instructions[index]
        if isinstance(found, Fork):
            waiting += [found.first, found.second]
        elif isinstance(found, Look):
            waiting.append(found.then)
