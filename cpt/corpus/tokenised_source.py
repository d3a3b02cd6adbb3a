"""Read the packed sequences of a source by number. Shards are opened when one of their sequences is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from cpt.corpus.documents import PART
from cpt.corpus.sequence_counts import KINDS
from cpt.corpus.shards import DocumentFact, Shard, ShardFolder

_OPEN = 4096
"""Shards that a process keeps mapped: 16,384 of the 65,530 maps that Linux allows it."""


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """A row of training: pieces one after the other.

    Attributes:
        source: Name of the text's source: "domain", "replay", or a part that is read alone, "domain.notes".
        tokens: uint16 or uint32 (tokens,), a read-only view of the shard.
        piece_lengths: int64 (pieces,).
        weights: Weights of the tokens in the loss, float16 (tokens,); None if all are 1.
        plain: Pieces of documents that are neither study documents nor conversations, bool (pieces,); None
            if the source was opened without them.
    """

    source: str
    tokens: np.ndarray
    piece_lengths: np.ndarray
    weights: np.ndarray | None = None
    plain: np.ndarray | None = None

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def target_weight(self) -> float:
        """Weight of the tokens that are predicted: all but the first of each piece."""
        if self.weights is None:
            return len(self.tokens) - len(self.piece_lengths)
        weights = self.weights.astype(np.float64)
        firsts = np.cumsum(self.piece_lengths) - self.piece_lengths
        return float(weights.sum() - weights[firsts].sum())

    @property
    def without_loss(self) -> int | None:
        """Number of tokens of weight 0 in the loss; None if there are no weights."""
        return None if self.weights is None else int(np.count_nonzero(self.weights == 0))


class StoredSequence:
    """A row of training whose counts are known; its tokens are read when somebody asks for them.

    A process counts all rows of a global batch, and reads its own.
    """

    __slots__ = ("_number", "_read", "_source", "length", "target_weight", "without_loss")

    def __init__(
        self,
        source: TokenisedSource,
        number: int,
        length: int,
        target_weight: float,
        without_loss: int | None,
    ) -> None:
        self._source, self._number = source, number
        self._read: PackedSequence | None = None
        self.length, self.target_weight, self.without_loss = length, target_weight, without_loss

    @property
    def source(self) -> str:
        return self._source.name

    @property
    def tokens(self) -> np.ndarray:
        return self._row().tokens

    @property
    def piece_lengths(self) -> np.ndarray:
        return self._row().piece_lengths

    @property
    def weights(self) -> np.ndarray | None:
        return self._row().weights

    @property
    def plain(self) -> np.ndarray | None:
        return self._row().plain

    def _row(self) -> PackedSequence:
        if self._read is None:
            self._read = self._source.sequence(self._number)
        return self._read


class TokenisedSource:
    """The packed sequences of one source, by number, read by memory map."""

    def __init__(self, *folders: Path, name: str | None = None, plain: DocumentFact | None = None) -> None:
        """Open `tokens/<source>` of a corpus folder, or `tokens/<source>.<part>` of each of its parts.

        Args:
            name: Name of the source in its sequences; default: the folders', without a part.
            plain: Function that tells which documents are plain, as `PlainDocuments` does.

        Raises:
            DataError: A folder holds no shards, or lacks some, or its counts are damaged.
        """
        self.name = name or folders[0].name.partition(PART)[0]
        self._folders = [ShardFolder.of(folder) for folder in folders]
        self._plain = plain
        self.sums = np.array([folder.sums for folder in self._folders])
        """Sums of sequences, tokens and tokens of weight 0 of each part: int64 (parts, 3)."""
        self.parts = dict(zip([folder.name for folder in folders], self.sums[:, 0].tolist(), strict=True))
        """Number of sequences of each part, in order of their numbers; a source without parts is its own."""
        self.has_weights = any(folder.counts.without_loss is not None for folder in self._folders)
        self._ends = np.cumsum(self.sums[:, 0])
        sizes = np.concatenate([folder.counts.shards[:, 0] for folder in self._folders])
        self._firsts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def sequence_lengths(self) -> np.ndarray:
        """Tokens of each sequence: (sequences,), of a source in parts a copy."""
        lengths = [folder.counts.tokens for folder in self._folders]
        return lengths[0] if len(lengths) == 1 else np.concatenate(lengths)

    def count(self, numbers: np.ndarray) -> np.ndarray:
        """Return sequences, tokens and tokens of weight 0 of each part among sequences: int64 (parts, 3).

        Args:
            numbers: int (n,), sequences; one that is named twice is counted twice.
        """
        found = np.zeros((len(self._folders), KINDS), dtype=np.int64)
        for part, (_, own) in enumerate(self._by_part(numbers)):
            folder = self._folders[part]
            lost = folder.counts.without_loss
            unlearnt = 0 if lost is None else lost[own].sum(dtype=np.int64)
            found[part] = len(own), folder.counts.tokens[own].sum(dtype=np.int64), unlearnt
        return found

    def rows(self, numbers: np.ndarray) -> list[StoredSequence]:
        """Return sequences with their counts; no shard is opened for it.

        Args:
            numbers: int (n,).
        """
        lengths, lost = np.zeros((2, len(numbers)), dtype=np.int64)
        targets = np.zeros(len(numbers), dtype=np.float64 if self.has_weights else np.int64)
        for (places, own), folder in zip(self._by_part(numbers), self._folders, strict=True):
            counts = folder.counts
            lengths[places] = counts.tokens[own]
            if counts.targets is None or counts.without_loss is None:
                targets[places] = lengths[places] - counts.pieces[own]
            else:
                targets[places], lost[places] = counts.targets[own], counts.without_loss[own]
        unlearnt = lost.tolist() if self.has_weights else [None] * len(numbers)
        facts = zip(numbers.tolist(), lengths.tolist(), targets.tolist(), unlearnt, strict=True)
        return [StoredSequence(self, *each) for each in facts]

    def sequence(self, number: int) -> PackedSequence:
        """Return sequence `number` of 0 .. len - 1."""
        if not 0 <= number < len(self):
            raise IndexError(f"sequence {number} of {len(self)}")
        which = int(np.searchsorted(self._firsts, number, side="right")) - 1
        (shard, plain), at = _opened(self, which), number - int(self._firsts[which])
        first, last = shard.sequences[at], shard.sequences[at + 1]
        pieces = shard.pieces[first : last + 1]
        tokens = slice(pieces[0], pieces[-1])
        weights = None if shard.weights is None else shard.weights[tokens]
        own = None if plain is None else plain[first:last]
        return PackedSequence(self.name, shard.tokens[tokens], np.diff(pieces), weights, own)

    def tokens_by_group(
        self, group: DocumentFact, groups: int, times: Callable[[int, int], np.ndarray]
    ) -> np.ndarray:
        """Add up the tokens of each group of documents, shard by shard.

        Args:
            group: Function that returns the group of documents: int (documents,).
            groups: Number of groups.
            times: Function that returns how often the sequences from one number up to another were read.

        Returns:
            int64 (2, groups): tokens that were read, and tokens of all sequences.
        """
        total = np.zeros((2, groups))
        for which, (first, end) in enumerate(pairwise(self._firsts.tolist())):
            shard, _ = self.open(which, tell_plain=False)
            of_pieces, tokens = shard.of_pieces(group), np.diff(shard.pieces)
            read = tokens * np.repeat(times(first, end), np.diff(shard.sequences))
            total += [np.bincount(of_pieces, each, groups) for each in (read, tokens)]
        return total.astype(np.int64)

    def open(self, which: int, *, tell_plain: bool = True) -> tuple[Shard, np.ndarray | None]:
        """Map a shard into memory; return it with its plain pieces, bool (pieces,), if somebody asks."""
        for folder in self._folders:
            if which < len(folder):
                shard = folder.open(which)
                plain = shard.of_pieces(self._plain) if tell_plain and self._plain is not None else None
                return shard, plain
            which -= len(folder)
        raise IndexError(which)

    def _by_part(self, numbers: np.ndarray) -> Iterator[tuple[slice | np.ndarray, np.ndarray]]:
        """Yield for each part the places of its sequences among some, and their numbers within the part."""
        if len(self._folders) == 1:
            yield slice(None), numbers
            return
        part = np.searchsorted(self._ends, numbers, side="right")
        for which, end in enumerate(self._ends):
            places = np.flatnonzero(part == which)
            yield places, numbers[places] - (end - self.sums[which, 0])


@lru_cache(maxsize=_OPEN)
def _opened(source: TokenisedSource, which: int) -> tuple[Shard, np.ndarray | None]:
    """Return a shard of any source with its plain pieces; the least recently used ones are let go."""
    return source.open(which)
