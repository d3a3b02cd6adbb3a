"""Know which tokens of a BPE may stand side by side within one piece of text.

BPE merges the pair of neighbours with the best rank, the leftmost of equals, until none is left. As long as no
merge joins them, two stretches of text are merged as if each were alone: in every step the better of their
next merges comes first. So a sequence of tokens is what BPE makes of its text if and only if that holds for
each token alone and for each two neighbours (Vieira et al. 2025, arXiv 2506.07956, for merges whose parts
have better ranks; here for any).

Two neighbours are joined by a merge of rank r if, at some time, its left part ends the first and its right
part begins the second, and neither has a better merge of its own. For the part that ends a token the `Stay`
has the time from which on it is there (the worst rank so far, as that is when its turn comes in any order
with others), the time at which it is merged itself, and the worst next rank while it is there: r has to be
better than that. Of equal ranks the left one comes first.

Shapes: V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

_NEVER = 2**31 - 1


class Stay(NamedTuple):
    """The time for which a symbol begins or ends a token while the token is merged.

    Attributes:
        symbol: Symbol.
        start, end: Ranks as times: from the first to before the last.
        worst: Worst rank among the next merges of the token during this time.
    """

    symbol: str
    start: int
    end: int
    worst: int


class Merged(NamedTuple):
    """A token that BPE makes of its own text: the stays of the symbols that begin it, and that end it."""

    begin: tuple[Stay, ...]
    end: tuple[Stay, ...]


Ranks = Mapping[tuple[str, str], int]


def ranked(merges: Sequence[tuple[str, str]]) -> Ranks:
    """Return the rank of each pair; of equal pairs the library keeps the last."""
    return {pair: rank for rank, pair in enumerate(merges)}


class MergePairs:
    """Pairs of tokens between which no merge applies.

    Attributes:
        reachable: [V] True for tokens that BPE makes of their own text.
    """

    def __init__(self, tokens: Sequence[Merged | None], ranks: Ranks) -> None:
        """Sort tokens by the symbols that begin them.

        Args:
            tokens: Tokens (`merged_alone`).
            ranks: Rank of each pair that is merged.
        """
        self._ends = [token.end if token else () for token in tokens]
        self.reachable = np.array([token is not None for token in tokens], dtype=bool)
        begins: dict[str, list[tuple[int, Stay]]] = {}
        for index, token in enumerate(tokens):
            for stay in token.begin if token else ():
                begins.setdefault(stay.symbol, []).append((index, stay))
        self._sort(ranks, begins)

    def _sort(self, ranks: Ranks, begins: Mapping[str, list[tuple[int, Stay]]]) -> None:
        numbers = {symbol: number for number, symbol in enumerate(begins)}
        rows = [row for stays in begins.values() for row in stays]
        self._first = np.cumsum([0, *map(len, begins.values())])
        self._token = np.array([index for index, _ in rows], dtype=np.int32)
        times = np.array([stay[1:] for _, stay in rows], dtype=np.int32).reshape(-1, 3)
        self._start, self._end, self._worst = times.T.copy()
        by_left: dict[str, list[tuple[int, int]]] = {}
        for (left, right), rank in ranks.items():
            if right in numbers:
                by_left.setdefault(left, []).append((numbers[right], rank))
        self._merges = {left: np.array(pairs, dtype=np.int64).T for left, pairs in by_left.items()}

    def after(self, token: int) -> np.ndarray:
        """Return the tokens that may follow a token within a piece: [V] bool."""
        found = self.reachable.copy() if self.reachable[token] else np.zeros_like(self.reachable)
        for stay in self._ends[token]:
            if stay.symbol not in self._merges:
                continue
            symbols, ranks = self._merges[stay.symbol]
            better = ranks < stay.worst
            symbols, ranks = symbols[better], ranks[better]
            counts = self._first[symbols + 1] - self._first[symbols]
            rows = np.repeat(self._first[symbols] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            joined = (
                (np.repeat(ranks, counts) <= self._worst[rows])
                & (self._start[rows] < stay.end)
                & (stay.start <= self._end[rows])
            )
            found[self._token[rows[joined]]] = False
        return found


def merged_alone(token: str, ranks: Ranks) -> Merged | None:
    """Merge the characters of a token; nothing if more than one symbol is left."""
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
    return Merged(_stays(firsts, steps), _stays(lasts, steps))


def _stays(symbols: Sequence[str], ranks: Sequence[int]) -> tuple[Stay, ...]:
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
            worst = max(following[first : last + 1])
            found.append(Stay(symbols[first], times[first], times[last + 1], worst))
            first = last + 1
    return tuple(found)
