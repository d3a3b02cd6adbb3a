"""Counts of each packed sequence, in files for all shards of a folder: nobody opens a shard to count.

`counts.shards.npy` int64 (shards, 3) has the sequences, the tokens and the tokens of weight 0 of each shard;
`counts.tokens.npy` and `counts.pieces.npy` (sequences,) are uint16, for sequences of 65,536 tokens or more
uint32. A folder with loss weights also has `counts.without_loss.npy`, the tokens of weight 0, and
`counts.targets.npy`, float64 (sequences,), the weight of all tokens that are predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpt.corpus.mapped import append, read_mapped
from cpt.errors import DataError

KINDS = 3
"""Number of kinds of counts in sums: sequences, tokens, tokens of weight 0 in the loss."""

_NAMES = ("tokens", "pieces", "without_loss", "targets")


@dataclass(frozen=True)
class SequenceCounts:
    """Counts of the sequences of one or more shards.

    Attributes:
        shards: int64 (shards, 3), sums of sequences, tokens and tokens of weight 0.
        tokens: uint16 or uint32 (sequences,).
        pieces: uint16 or uint32 (sequences,).
        without_loss: uint16 or uint32 (sequences,), tokens of weight 0; None if there are no weights.
        targets: float64 (sequences,), weight of the tokens that are predicted; None if there are no weights.
    """

    shards: np.ndarray
    tokens: np.ndarray
    pieces: np.ndarray
    without_loss: np.ndarray | None = None
    targets: np.ndarray | None = None

    @classmethod
    def of_shard(
        cls, pieces: np.ndarray, sequences: np.ndarray, weights: np.ndarray | None, most: int
    ) -> SequenceCounts:
        """Count the sequences of a shard.

        Args:
            pieces: int64 (pieces + 1,), offsets into tokens.
            sequences: int64 (sequences + 1,), offsets into pieces.
            weights: float16 (tokens,); None if all are 1.
            most: Number of tokens that a sequence can have.
        """
        small = np.uint16 if most <= np.iinfo(np.uint16).max else np.uint32
        tokens = np.diff(pieces[sequences])
        without_loss = targets = None
        lost = 0
        if weights is not None:
            unlearnt = np.add.reduceat(weights == 0, pieces[sequences[:-1]], dtype=np.int64)
            lost, without_loss = int(unlearnt.sum()), unlearnt.astype(small)
            # float16 numbers are multiples of 2^-24, so that their sums in float64 are exact in any order
            targets = np.add.reduceat(weights, pieces[sequences[:-1]], dtype=np.float64)
            targets -= np.add.reduceat(weights[pieces[:-1]], sequences[:-1], dtype=np.float64)
        shards = np.array([[len(tokens), tokens.sum(), lost]], dtype=np.int64)
        return cls(shards, tokens.astype(small), np.diff(sequences).astype(small), without_loss, targets)

    @classmethod
    def joined(cls, counts: Sequence[SequenceCounts]) -> SequenceCounts:
        """Join the counts of consecutive shards."""
        weighted = any(each.without_loss is not None for each in counts)
        if weighted:
            counts = [each.with_weights() for each in counts]
        columns: dict[str, np.ndarray] = {
            name: np.concatenate([getattr(each, name) for each in counts])
            for name in ("shards", *(_NAMES if weighted else _NAMES[:2]))
        }
        return cls(**columns)

    def with_weights(self) -> SequenceCounts:
        """Return the same counts with those of weights, which are all 1 if there are none."""
        if self.without_loss is not None:
            return self
        targets = self.tokens.astype(np.float64) - self.pieces
        return SequenceCounts(self.shards, self.tokens, self.pieces, np.zeros_like(self.tokens), targets)

    def append_to(self, folder: Path) -> None:
        """Write the counts of the next shard of a folder; the first one begins the files."""
        known, weighted = _path(folder, "shards").exists(), _path(folder, "targets").exists()
        counts = self
        if weighted:
            counts = self.with_weights()
        elif known and self.without_loss is not None:
            before = read_counts(folder)
            assert before is not None
            for name in ("without_loss", "targets"):
                append(_path(folder, name), getattr(before.with_weights(), name))
        for name in ("shards", *_NAMES):
            if (values := getattr(counts, name)) is not None:
                append(_path(folder, name), values)


def counted_at(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells a change of a folder's counts: time, size and inode. None if there is no folder."""
    file = _path(folder, "shards")
    try:
        found = (file if file.exists() else folder).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def clear_counts(folder: Path) -> None:
    """Remove the counts of a folder's shards."""
    for name in ("shards", *_NAMES):
        _path(folder, name).unlink(missing_ok=True)


def read_counts(folder: Path) -> SequenceCounts | None:
    """Map the counts of a folder's shards into memory; None if a corpus of an earlier version has none.

    Raises:
        DataError: They are damaged.
    """
    if not _path(folder, "shards").exists():
        return None
    shards = read_mapped(_path(folder, "shards"), dimensions=2)
    weighted = _path(folder, "targets").exists()
    names = _NAMES if weighted else _NAMES[:2]
    found = {name: read_mapped(_path(folder, name), "f" if name == "targets" else "iu") for name in names}
    if shards.shape[1] != KINDS or any(len(each) != shards[:, 0].sum() for each in found.values()):
        message = f"{folder}: the counts of its sequences do not fit together"
        raise DataError(message, hint="Run the stage again.")
    return SequenceCounts(shards, **found)


def _path(folder: Path, name: str) -> Path:
    return folder / f"counts.{name}.npy"
