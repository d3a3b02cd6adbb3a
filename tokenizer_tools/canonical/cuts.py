"""Follow a pre-tokenizer through a text whose end is not known yet.

A pre-tokenizer cuts text into pieces where its expressions match. Where a piece ends may depend on text that
follows: GPT-2's expression leaves the last of several spaces to the next word, so that of "a  b" and "a  "
only the second has a piece of two spaces. So a beginning of a text may be cut in several ways, each of which
some continuation makes the right one. This module gives for every way its state, from which the ways to read
the next character follow: as the first of a new piece, or as a further one of the same piece. Ways that no
continuation makes right are left out.

A way is a guess that is checked. Where a match may end, it does end only if what the expression prefers (a
longer match, an earlier alternative) comes to nothing. So these instructions are followed on, and if one of
them matches, the guess was wrong. Text outside of all matches is a piece too, up to the next match.

Several expressions may follow one another, each on the pieces of the one before.

Shapes: S states, C classes of characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.errors import DataError
from tokenizer_tools.canonical.characters import Characters
from tokenizer_tools.canonical.pattern import Fork, Look, Match, Pattern

DEAD = 0
"""State of a text that the pre-tokenizer does not cut in this way."""

_MOST_STATES = 20_000


@dataclass(frozen=True)
class _Way:
    """A way through one expression.

    Attributes:
        threads: Instructions of the match that the current piece is, the preferred one first; None in a piece
            that no match holds, and at the start.
        unwanted: Instructions that must come to nothing.
        started: True if the piece has a character.
    """

    threads: tuple[int, ...] | None = None
    unwanted: frozenset[int] = frozenset()
    started: bool = False


class _Stage:
    """One expression."""

    def __init__(self, pattern: Pattern, matches: np.ndarray, atoms: Sequence[str]) -> None:
        """Prepare an expression.

        Args:
            matches: [C, A] True where an atom matches the characters of a class.
            atoms: The atoms.
        """
        self._pattern = pattern
        column = {atom: number for number, atom in enumerate(atoms)}
        self._matches = {atom: matches[:, column[atom]] for atom in pattern.atoms}
        self._known: dict[tuple[tuple[int, ...], int | None], tuple[int | None, tuple[int, ...]]] = {}

    def read(self, way: _Way, symbol: int) -> Iterator[tuple[bool, _Way]]:
        """Yield the ways after a character, each with True if the character starts a piece."""
        unwanted = self._without_match(way.unwanted, symbol)
        if unwanted is None:
            return
        if way.threads is not None:
            end, going_on = self._step(way.threads, symbol)
            if going_on:
                yield False, _Way(going_on, unwanted, True)
            if end is None:
                return
            unwanted |= frozenset(going_on)
        _, begun = self._step((self._pattern.start,), symbol)
        follows_gap = way.threads is None and way.started
        if begun:
            yield True, _Way(begun, unwanted, True)
        yield not follows_gap, _Way(None, unwanted | frozenset(begun), True)

    def may_end(self, way: _Way) -> bool:
        """Return True if the text may end here."""
        if self._without_match(way.unwanted, None) is None:
            return False
        return way.threads is None or self._step(way.threads, None)[0] is not None

    def _without_match(self, threads: frozenset[int], symbol: int | None) -> frozenset[int] | None:
        """Return the instructions after a character; None if one of them matched before it."""
        end, after = self._step(tuple(sorted(threads)), symbol, stops=False)
        return frozenset(after) if end is None else None

    def _step(
        self, threads: tuple[int, ...], symbol: int | None, *, stops: bool = True
    ) -> tuple[int | None, tuple[int, ...]]:
        """Return the match before the next character, if there is one, and the instructions after it.

        Args:
            symbol: Class of the next character; None at the end.
            stops: True to leave out what is less preferred than the match.
        """
        key = (threads, symbol)
        if stops and key in self._known:
            return self._known[key]
        end: int | None = None
        after: dict[int, None] = {}
        waiting, seen = list(reversed(threads)), set()
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            found = self._pattern.instructions[index]
            if isinstance(found, Match):
                end = index
                if stops:
                    break
            elif isinstance(found, Fork):
                waiting += [found.second, found.first]
            elif isinstance(found, Look):
                if (symbol is not None and bool(self._matches[found.atom][symbol])) != found.negative:
                    waiting.append(found.then)
            elif symbol is not None and self._matches[found.atom][symbol]:
                after[found.then] = None
        result = end, tuple(after)
        if stops:
            self._known[key] = result
        return result


_Ways = tuple[_Way, ...]
"""A way through all expressions."""


class Cuts:
    """The states of a pre-tokenizer as tables.

    Attributes:
        start: State before any text.
        new_piece, same_piece: [S, C] State after a character that starts a piece, or continues one; `DEAD`
            if it cannot.
        may_end: [S] True if a text may end in the state.
        may_close: [S] True if the current piece may end, with the text or where another starts.
    """

    start: int
    new_piece: np.ndarray
    same_piece: np.ndarray
    may_end: np.ndarray

    def __init__(self, patterns: Sequence[Pattern], characters: Characters, atoms: Sequence[str]) -> None:
        """Build the tables.

        Args:
            patterns: Expressions in the order in which they cut.
            characters: Classes of characters.
            atoms: The columns of `characters.matches`.

        Raises:
            DataError: The expressions have too many states.
        """
        self._stages = [_Stage(pattern, characters.matches, atoms) for pattern in patterns]
        self._classes = characters.count
        self._explore()
        self._group()
        self.may_close = self.may_end | (self.new_piece != DEAD).any(1)

    def _read(self, ways: _Ways, symbol: int, at: int = 0) -> Iterator[tuple[bool, _Ways]]:
        """Yield the ways after a character, through the expressions from `at` on."""
        if at == len(self._stages):
            yield False, ()
            return
        for cut, way in self._stages[at].read(ways[at], symbol):
            later = ways
            if cut:
                if not all(s.may_end(w) for s, w in zip(self._stages[at + 1 :], ways[at + 1 :], strict=True)):
                    continue
                later = (*ways[: at + 1], *(_Way() for _ in self._stages[at + 1 :]))
            for further, others in self._read(later, symbol, at + 1):
                yield cut or further, (way, *others)

    def _explore(self) -> None:
        """Find all ways and those among them that some text completes."""
        first: _Ways = tuple(_Way() for _ in self._stages)
        found = {first: 0}
        waiting = [first]
        steps: list[tuple[int, int, bool, int]] = []
        while waiting:
            ways = waiting.pop()
            for symbol in range(self._classes):
                for cut, after in self._read(ways, symbol):
                    if after not in found:
                        found[after] = len(found)
                        waiting.append(after)
                        if len(found) > _MOST_STATES:
                            raise _too_many()
                    steps.append((found[ways], symbol, cut, found[after]))
        self._ends = np.array(
            [all(s.may_end(w) for s, w in zip(self._stages, ways, strict=True)) for ways in found]
        )
        alive = self._ends.copy()
        edges = np.array([(source, target) for source, _, _, target in steps]).reshape(-1, 2)
        while True:
            more = np.zeros_like(alive)
            np.logical_or.at(more, edges[:, 0], alive[edges[:, 1]])
            if not (more & ~alive).any():
                break
            alive |= more
        self._steps: list[dict[tuple[int, bool], list[int]]] = [{} for _ in found]
        for source, symbol, cut, target in steps:
            if alive[target]:
                self._steps[source].setdefault((symbol, cut), []).append(target)

    def _group(self) -> None:
        """Number the sets of ways that the same text with the same cuts leads to."""
        sets: dict[frozenset[int], int] = {frozenset(): DEAD, frozenset([0]): 1}
        waiting = [frozenset([0])]
        rows: dict[int, np.ndarray] = {DEAD: np.zeros((2, self._classes), dtype=np.int32)}
        while waiting:
            group = waiting.pop()
            row = np.zeros((2, self._classes), dtype=np.int32)
            for symbol in range(self._classes):
                for cut in (False, True):
                    after = frozenset(
                        target for way in group for target in self._steps[way].get((symbol, cut), ())
                    )
                    if after not in sets:
                        sets[after] = len(sets)
                        waiting.append(after)
                        if len(sets) > _MOST_STATES:
                            raise _too_many()
                    row[int(cut), symbol] = sets[after]
            rows[sets[group]] = row
        table = np.stack([rows[number] for number in range(len(sets))])  # [S, 2, C]
        self.start = 1
        self.same_piece, self.new_piece = np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
        self.may_end = np.array([any(self._ends[way] for way in group) for group in sets])


def _too_many() -> DataError:
    return DataError(
        "the tokenizer's way of cutting text into words is too complex to be followed",
        hint="Exact probabilities of bytes are known for the expressions of most tokenizers only.",
    )
