"""Store packed sequences as token shards: plain numpy files read by memory map.

`shard-N.tokens.npy` (tokens,) in packed order, uint16 where all are below 65,536 and else uint32;
`shard-N.pieces.npy` int64 (pieces + 1,) offsets into tokens; `shard-N.sequences.npy` int64 (sequences + 1,)
offsets into pieces; `shard-N.documents.npy` int64 (pieces,) the row of each piece's document in the corpus's
`documents/<source>.train.parquet`. A shard with loss weights also has `shard-N.weights.npy`, float16
(tokens,). `cpt.corpus.sequence_counts` has the files for all shards of a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpt.corpus.mapped import read_mapped
from cpt.corpus.packing import best_fit
from cpt.corpus.sequence_counts import SequenceCounts, clear_counts, read_counts
from cpt.errors import DataError

SHARD_TOKENS = 1 << 24
"""Number of tokens packed together and held in memory: 16 Mi, 64 MiB on disk."""

DocumentFact = Callable[[str, np.ndarray], np.ndarray]
"""A function from the name of a folder of shards and rows of documents, int64 (n,), to facts about them."""


class ShardWriter:
    """A writer that collects pieces and writes a shard whenever `shard_tokens` tokens are reached."""

    def __init__(self, folder: Path, sequence_length: int, shard_tokens: int = SHARD_TOKENS) -> None:
        self.sequences = 0
        self._folder, self._length, self._most = folder, sequence_length, shard_tokens
        self._pieces: list[np.ndarray] = []
        self._documents: list[int] = []
        self._weights: dict[int, np.ndarray] = {}
        self._tokens = 0
        self._shards = 0
        folder.mkdir(parents=True, exist_ok=True)
        clear_counts(folder)

    def add(self, pieces: list[np.ndarray], document: int, weights: list[np.ndarray] | None = None) -> None:
        """Add a document.

        Args:
            pieces: uint32 (tokens,) each.
            document: Row in the file of documents.
            weights: Loss weights of the pieces' tokens, float16 (tokens,) each; all 1 if left out.
        """
        self._weights.update(enumerate(weights or (), start=len(self._pieces)))
        self._pieces.extend(pieces)
        self._documents.extend([document] * len(pieces))
        self._tokens += sum(map(len, pieces))
        if self._tokens >= self._most:
            self.close()

    def close(self) -> None:
        """Pack and write the collected pieces."""
        if not self._pieces:
            return
        lengths = np.array([len(piece) for piece in self._pieces], dtype=np.int64)
        sequences = best_fit(lengths, self._length)
        order = [piece for sequence in sequences for piece in sequence]
        stem = self._folder / _stem(self._shards)
        tokens = np.concatenate([self._pieces[piece] for piece in order])
        fits = tokens.max() <= np.iinfo(np.uint16).max
        weights = np.concatenate([self._weights_of(piece) for piece in order]) if self._weights else None
        starts, firsts = _offsets(lengths[order]), _offsets(np.array([len(each) for each in sequences]))
        np.save(f"{stem}.tokens.npy", tokens.astype(np.uint16) if fits else tokens)
        np.save(f"{stem}.documents.npy", np.array(self._documents, dtype=np.int64)[order])
        np.save(f"{stem}.pieces.npy", starts)
        np.save(f"{stem}.sequences.npy", firsts)
        if weights is not None:
            np.save(f"{stem}.weights.npy", weights)
        SequenceCounts.of_shard(starts, firsts, weights, self._length).append_to(self._folder)
        self.sequences += len(sequences)
        self._shards += 1
        self._pieces, self._documents, self._weights, self._tokens = [], [], {}, 0

    def _weights_of(self, piece: int) -> np.ndarray:
        return self._weights.get(piece, np.ones(len(self._pieces[piece]), dtype=np.float16))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _stem(number: int) -> str:
    return f"shard-{number:05d}"


@dataclass(frozen=True)
class Shard:
    """A shard whose files are mapped into memory.

    Attributes:
        stem: Path of its files without their endings.
        tokens: uint16 or uint32 (tokens,).
        pieces: int64 (pieces + 1,), offsets into tokens.
        sequences: int64 (sequences + 1,), offsets into pieces.
        weights: float16 (tokens,); None if all are 1.
    """

    stem: Path
    tokens: np.ndarray
    pieces: np.ndarray
    sequences: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def open(cls, stem: Path) -> Shard:
        """Map a shard into memory, and check that its files fit together.

        Raises:
            DataError: A file is missing or damaged, or a limit of the system is reached.
        """
        tokens, pieces, sequences = (
            read_mapped(Path(f"{stem}.{part}.npy")) for part in ("tokens", "pieces", "sequences")
        )
        path = Path(f"{stem}.weights.npy")
        weights = read_mapped(path, "f") if path.exists() else None
        fits = pieces[-1] == len(tokens) and sequences[-1] == len(pieces) - 1
        if not fits or (weights is not None and len(weights) != len(tokens)):
            raise DataError(f"{stem}: the shard's files do not fit together", hint="Run the stage again.")
        return cls(stem, tokens, pieces, sequences, weights)

    def of_pieces(self, fact: DocumentFact) -> np.ndarray:
        """Return a fact about the document of each piece: (pieces,)."""
        return fact(self.stem.parent.name, read_mapped(Path(f"{self.stem}.documents.npy")))


def _counted(stem: Path) -> SequenceCounts:
    shard = Shard.open(stem)
    return SequenceCounts.of_shard(shard.pieces, shard.sequences, shard.weights, np.iinfo(np.uint32).max)


@dataclass(frozen=True)
class ShardFolder:
    """The shards of a source or of one part of it. None is open.

    Attributes:
        path: `tokens/<source>` or `tokens/<source>.<part>` of a corpus folder.
        counts: Counts of all sequences.
    """

    path: Path
    counts: SequenceCounts

    @classmethod
    def of(cls, path: Path) -> ShardFolder:
        """Read the counts of a folder, and look which shards are there.

        Raises:
            DataError: There are no shards, some are missing, or the counts are damaged.
        """
        there = {each.name for each in path.glob("shard-*.tokens.npy")}
        if not there:
            raise DataError(f"{path}: no token shards", hint="Run the corpus stage again (--force corpus).")
        counts = read_counts(path)
        if counts is None:  # a corpus of an earlier version
            counts = SequenceCounts.joined([_counted(path / _stem(number)) for number in range(len(there))])
        stems = [_stem(number) for number in range(len(counts.shards))]
        missing = [stem for stem in stems if f"{stem}.tokens.npy" not in there]
        if missing:
            message = (
                f"{path}: {len(missing):,} of {len(stems):,} token shards are missing, such as {missing[0]}"
            )
            raise DataError(message, hint="Run the corpus stage again (--force corpus).")
        return cls(path, counts)

    def __len__(self) -> int:
        return len(self.counts.shards)

    @property
    def sums(self) -> np.ndarray:
        """Sums of sequences, tokens and tokens of weight 0: int64 (3,)."""
        return np.asarray(self.counts.shards.sum(axis=0))

    def open(self, number: int) -> Shard:
        """Map a shard into memory.

        Raises:
            DataError: It is missing or damaged, it is not the one that was counted, or a limit is reached.
        """
        shard = Shard.open(self.path / _stem(number))
        counted = tuple(self.counts.shards[number, :2].tolist())
        found = (len(shard.sequences) - 1, len(shard.tokens))
        if found != counted:
            raise DataError(
                f"{shard.stem}: not the shard that was counted: it has {found[0]:,} sequences and "
                f"{found[1]:,} tokens instead of {counted[0]:,} and {counted[1]:,}",
                hint="Run the stage again.",
            )
        return shard
