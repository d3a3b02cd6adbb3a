"""Know which tokens of a BPE may stand side by side within one piece of text.

BPE merges the pair of neighbours with the lowest rank, the leftmost of equals, until none is left. Two
stretches of text are merged as if each were alone, until a merge joins them: in every step the lower of their
next ranks comes first. So BPE makes a sequence of tokens if and only if it makes each token of its own text,
and each two neighbours of theirs (Vieira et al. 2025, arXiv 2506.07956).

Two neighbours are joined by a merge of rank r if, at some time, its left part ends the first token, its right
part begins the second, and neither token has a next merge of lower rank. A `Stay` holds the time for which a
part is there. Time is the highest rank so far: a lower one that follows it is merged at once. While the part
is there, some next rank of its token has to be above r. Of equal ranks the left one comes first. (Where ranks
always rise, as in most tokenizers, all this says that r comes before the part's own merge.)

Shapes: V tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import accumulate, pairwise

import numpy as np

_NEVER = 2**31 - 1

Ranks = Mapping[tuple[str, str], int]

Stay = tuple[str, int, int, int]
"""A symbol that begins or ends a token while that is merged: the symbol, the times from and until which it
is there, and the highest rank among the next merges of the token during this time."""


def ranked(merges: Sequence[tuple[str, str]]) -> Ranks:
    """Return the rank of each pair; of equal pairs the library keeps the last."""
    return {pair: rank for rank, pair in enumerate(merges)}


class MergePairs:
    """Pairs of tokens between which no merge applies.

    Attributes:
        reachable: [V] True for tokens that BPE makes of their own text.
    """

    def __init__(self, tokens: Sequence[str], ranks: Ranks) -> None:
        """Merge each token alone.

        Args:
            tokens: Tokens as the merges spell them.
            ranks: Rank of each pair that is merged.
        """
        numbers: dict[str, int] = {}
        # one row of five for each stay; arrays, since a million tuples keep the garbage collector busy
        begins, ends = array("i"), array("i")
        self.reachable = np.zeros(len(tokens), dtype=bool)
        for index, token in enumerate(tokens):
            stays = stays_of(token, ranks)
            if stays is None:
                continue
            self.reachable[index] = True
            for rows, of_side in zip((begins, ends), stays, strict=True):
                for symbol, *times in of_side:
                    rows.extend((numbers.setdefault(symbol, len(numbers)), index, *times))
        self._symbols = len(numbers)
        known = [
            (numbers[left], numbers[right], rank)
            for (left, right), rank in ranks.items()
            if left in numbers and right in numbers
        ]
        self._merges = _sorted_columns(known, 3, 0)
        self._index(_sorted_columns(begins, 5, 0), _sorted_columns(ends, 5, 1))

    def _index(self, begins: np.ndarray, ends: np.ndarray) -> None:
        """Note where the rows of each symbol, and of each token, start."""
        self._begins, self._ends = begins, ends
        symbols = np.arange(self._symbols + 1)
        self._first_begin, self._first_merge = (
            np.searchsorted(rows[0], symbols) for rows in (begins, self._merges)
        )
        self._first_end = np.searchsorted(ends[1], np.arange(len(self.reachable) + 1))

    def restricted(self, kept: np.ndarray) -> MergePairs:
        """Return the pairs of some of the tokens, which are numbered anew.

        Args:
            kept: [V] True for these.
        """
        found = copy(self)
        found.reachable = self.reachable[kept]
        number = np.cumsum(kept) - 1
        begins, ends = (stays[:, kept[stays[1]]].copy() for stays in (self._begins, self._ends))
        for stays in (begins, ends):
            stays[1] = number[stays[1]]
        found._index(begins, ends)
        return found

    def after(self, token: int) -> np.ndarray:
        """Return the tokens that may follow a token within a piece: [V] bool."""
        found = self.reachable.copy() if self.reachable[token] else np.zeros_like(self.reachable)
        own = self._ends[:, self._first_end[token] : self._first_end[token + 1]]
        for symbol, _, start, end, highest in own.T.tolist():
            merges = self._merges[:, self._first_merge[symbol] : self._first_merge[symbol + 1]]
            _, rights, ranks = merges[:, merges[2] < highest]
            firsts = self._first_begin[rights]
            counts = self._first_begin[rights + 1] - firsts
            places = np.repeat(firsts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            _, others, starts, ends, highests = self._begins[:, places]
            joined = (np.repeat(ranks, counts) <= highests) & (starts < end) & (start <= ends)
            found[others[joined]] = False
        return found


def _sorted_columns(rows: array[int] | Sequence[tuple[int, ...]], width: int, by: int) -> np.ndarray:
    """Return rows of numbers as columns, in the order of one of them: [width, rows]."""
    columns = np.array(rows, dtype=np.int32).reshape(-1, width).T
    return columns[:, np.argsort(columns[by], kind="stable")].copy()


def stays_of(token: str, ranks: Ranks) -> tuple[list[Stay], list[Stay]] | None:
    """Merge the characters of a token.

    Returns:
        The stays of the symbols that begin it, and that end it; nothing if more than one symbol is left.
    """
    symbols = list(token)
    steps: list[int] = []
    firsts, lasts = [symbols[0]], [symbols[-1]]
    possible = [ranks.get(pair, _NEVER) for pair in pairwise(symbols)]  # [symbols - 1], kept as they merge
    while possible:
        rank = min(possible)
        if rank == _NEVER:
            return None
        at = possible.index(rank)
        joined = symbols[at] + symbols[at + 1]
        symbols[at : at + 2] = [joined]
        del possible[at]
        if at:
            possible[at - 1] = ranks.get((symbols[at - 1], joined), _NEVER)
        if at < len(possible):
            possible[at] = ranks.get((joined, symbols[at + 1]), _NEVER)
        steps.append(rank)
        firsts.append(symbols[0])
        lasts.append(symbols[-1])
    return _stays(firsts, steps), _stays(lasts, steps)


def _stays(symbols: Sequence[str], ranks: Sequence[int]) -> list[Stay]:
    """Return the stays of the symbols before and after each merge of a token.

    Args:
        symbols: One symbol more than there are merges.
        ranks: Ranks of the merges in their order.
    """
    times = [-1, *accumulate(ranks, max), _NEVER]
    following = [*ranks, _NEVER]
    found = []
    first = 0
    for last in range(len(symbols)):
        if last + 1 == len(symbols) or symbols[last + 1] != symbols[last]:
            found.append((symbols[first], times[first], times[last + 1], max(following[first : last + 1])))
            first = last + 1
    return found
