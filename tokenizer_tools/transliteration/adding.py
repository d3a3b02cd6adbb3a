"""Given tokens put into a tokenizer, as far as its model can be brought to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizer_tools import bpe_file, unigram_file, wordpiece_file
from tokenizer_tools.bpe_file import BpeFile
from tokenizer_tools.extension.continued_bpe import MergeTable


@dataclass(frozen=True)
class Addition:
    """A tokenizer with more tokens, not yet written.

    Attributes:
        data: content of the new tokenizer.json.
        tokens: the new tokens; ids are consecutive, after every id that was used.
        merges: merges that were appended.
    """

    data: Mapping[str, Any]
    tokens: Sequence[str]
    merges: int = 0


def add_scored_pieces(folder: Path, scored: Mapping[str, float], limit: int | None) -> Addition:
    """Add to a Unigram the pieces that are on the best path over their own text; no text is cut into others.

    Args:
        scored: scores of the new pieces, in the order of their ids.
        limit: most pieces.
    """
    file = unigram_file.read(folder)
    path = file.best_path()
    for piece, score in scored.items():
        path.add(piece, score)
    winning = (piece for piece in scored if path.segment(piece) == [piece])
    tokens = list(islice(winning, limit))
    return Addition(file.extended([(piece, scored[piece]) for piece in tokens]), tokens)


def add_pieces(folder: Path, scored: Mapping[str, float], limit: int | None) -> Addition:
    """Add pieces to a WordPiece: longest match needs no scores."""
    file = wordpiece_file.read(folder)
    tokens = list(islice(scored, limit))
    return Addition(
        file.extended({token: token_id for token_id, token in enumerate(tokens, file.next_id)}), tokens
    )


def add_by_merges(folder: Path, scored: Mapping[str, float], limit: int | None) -> Addition:
    """Add tokens to a BPE with the merges that lead to them.

    A token's present tokens are joined from the left, so the tokens in between are new ones as well. New
    merges rank after all old ones, so text to which none of them applies is cut as before; and each ranks
    after those of earlier tokens, which therefore stay in reach.
    """
    file = bpe_file.read(folder)
    merges = _Merges(file)
    for token in scored:
        symbols = merges.segment(token)
        if limit is not None and len(merges.new) + len(symbols) - 1 > limit:
            break
        if symbols:
            merges.join(symbols)
    return Addition(file.extended(merges.appended, merges.new), list(merges.new), len(merges.appended))


class _Merges:
    """A BPE's merges, growing.

    Attributes:
        appended: (left, right) of the new merges, by rank.
        new: id of every new token.
    """

    def __init__(self, file: BpeFile) -> None:
        self.appended: list[tuple[str, str]] = []
        self.new: dict[str, int] = {}
        self._table = MergeTable(file)
        self._ids = dict(file.ids)
        self._first = file.next_id
        self._spelling = {token_id: token for token, token_id in file.ids.items()}
        self._added = tuple(file.added)
        self._barred = file.barred()

    def segment(self, token: str) -> list[int]:
        """What the merges make of a token's text; nothing if no merges can lead to it."""
        if token.startswith(self._added) or any(character not in self._ids for character in token):
            return []
        symbols = self._table.segment([self._ids[character] for character in token])
        return symbols if self._barred.isdisjoint(symbols) else []

    def join(self, symbols: Sequence[int]) -> None:
        """Append merges, from the left, until these symbols are one."""
        while len(symbols) > 1:
            left, right = (self._spelling[symbol] for symbol in symbols[:2])
            product = self._id(left + right)
            self.appended.append((left, right))
            self._table.add((symbols[0], symbols[1]), product)
            symbols = self._table.segment(symbols)

    def _id(self, token: str) -> int:
        if token not in self._ids:
            self._ids[token] = self.new[token] = self._first + len(self.new)
            self._spelling[self._ids[token]] = token
        return self._ids[token]
