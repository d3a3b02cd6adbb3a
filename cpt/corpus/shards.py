"""Pack documents into sequences, and store them as token shards: plain numpy files read by memory map.

Packing: split documents that are too long, then best fit (Ding et al. 2024, arXiv 2404.10830).
`shard-N.tokens.npy` (tokens,) in packed order, uint16 where all are below 65,536 and else uint32;
`shard-N.pieces.npy` int64 (pieces + 1,) offsets into tokens; `shard-N.sequences.npy` int64 (sequences + 1,)
offsets into pieces; `shard-N.documents.npy` int64 (pieces,) the row of each piece's document in the corpus's
`documents/<source>.train.parquet`. A shard with loss weights also has `shard-N.weights.npy`, float16
(tokens,).
"""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cpt.corpus.documents import PART
from cpt.errors import DataError


def split_document(
    tokens: np.ndarray, length: int, start: float | None = None, end: float | None = None
) -> list[np.ndarray]:
    """Split a document into pieces [start] + tokens + [end only at the document's end] of at most `length`.

    A piece never holds the end token alone after its start token: that would teach the model that documents
    may be empty.

    Args:
        tokens: (tokens,), without special tokens; at least one.
        length: Sequence length in tokens, at least 3.

    Returns:
        The pieces, in the data type of `tokens`: weights of tokens are split like them.
    """
    room = length - (start is not None)
    cuts = list(range(room, len(tokens), room))
    if end is not None and len(tokens) % room == 0:
        cuts.append(len(tokens) - 1)
    first = np.array([] if start is None else [start], dtype=tokens.dtype)
    last = np.array([] if end is None else [end], dtype=tokens.dtype)
    pieces = [np.concatenate([first, piece]) for piece in np.split(tokens, cuts)]
    pieces[-1] = np.concatenate([pieces[-1], last])
    return pieces


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Group pieces into sequences: longest first, each into the fullest sequence that still has room.

    Takes O(n (log n + log capacity)). Ties go by index, so the result depends on the lengths alone.

    Args:
        lengths: int (pieces,), each between 1 and `capacity`.

    Returns:
        The indices of the pieces of each sequence.
    """
    sequences: list[list[int]] = []
    open_by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # sorted keys of open_by_room
    for piece in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[piece])
        at = bisect.bisect_left(rooms, size)
        if at == len(rooms):
            room, sequence = capacity, len(sequences)
            sequences.append([])
        else:
            room = rooms[at]
            sequence = open_by_room[room].pop()
            if not open_by_room[room]:
                del open_by_room[room], rooms[at]
        sequences[sequence].append(piece)
        left = room - size
        if left > 0:
            if left not in open_by_room:
                open_by_room[left] = []
                bisect.insort(rooms, left)
            open_by_room[left].append(sequence)
    return sequences


SHARD_TOKENS = 1 << 24
"""Number of tokens packed together and held in memory: 16 Mi, 64 MiB on disk."""

_LIMITS = {
    errno.EMFILE: "Too few files may be open in one process: raise the limit (ulimit -n 65536).",
    errno.ENFILE: "Too few files may be open on this machine: end other programs, or raise fs.file-max.",
    errno.ENOMEM: "Raise the system's limit of memory maps (sysctl vm.max_map_count).",
}
"""Remedy by error number of the system. Such an error does not mean that the file is damaged."""


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
        stem = str(self._folder / f"shard-{self._shards:05d}")
        tokens = np.concatenate([self._pieces[piece] for piece in order])
        fits = tokens.max() <= np.iinfo(np.uint16).max
        np.save(f"{stem}.tokens.npy", tokens.astype(np.uint16) if fits else tokens)
        np.save(f"{stem}.documents.npy", np.array(self._documents, dtype=np.int64)[order])
        np.save(f"{stem}.pieces.npy", _offsets(lengths[order]))
        np.save(f"{stem}.sequences.npy", _offsets(np.array([len(sequence) for sequence in sequences])))
        if self._weights:
            np.save(f"{stem}.weights.npy", np.concatenate([self._weights_of(piece) for piece in order]))
        self.sequences += len(sequences)
        self._shards += 1
        self._pieces, self._documents, self._weights, self._tokens = [], [], {}, 0

    def _weights_of(self, piece: int) -> np.ndarray:
        return self._weights.get(piece, np.ones(len(self._pieces[piece]), dtype=np.float16))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


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


@dataclass(frozen=True, slots=True)
class _Shard:
    stem: str
    tokens: np.ndarray
    pieces: np.ndarray
    sequences: np.ndarray
    weights: np.ndarray | None

    def documents(self) -> np.ndarray:
        """Return the row of each piece's document in the file of documents: int64 (pieces,)."""
        return _mapped(Path(f"{self.stem}.documents.npy"))

    def of_pieces(self, of_documents: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return a fact about the document of each piece: (pieces,).

        Args:
            of_documents: For each file of documents the fact about each, by its row: (documents,). A part
                that has no file of its own is in that of its source.
        """
        folder = Path(self.stem).parent.name
        own = of_documents.get(folder)
        return (of_documents[folder.partition(PART)[0]] if own is None else own)[self.documents()]

    def without_loss(self) -> np.ndarray:
        """Return the number of tokens of weight 0 of each sequence: int64 (sequences,)."""
        if self.weights is None:
            return np.zeros(len(self.sequences) - 1, dtype=np.int64)
        return np.add.reduceat(self.weights == 0, self.pieces[self.sequences[:-1]], dtype=np.int64)


class TokenisedSource:
    """The packed sequences of one source, by number, read by memory map."""

    def __init__(
        self,
        *folders: Path,
        name: str | None = None,
        plain: Callable[[], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """Open `tokens/<source>` of a corpus folder, or `tokens/<source>.<part>` of each of its parts.

        Args:
            name: Name of the source in its sequences; default: the folders', without a part.
            plain: Function that returns for each file of documents which are plain, by row: bool
                (documents,). It is called with the first sequence that is read.

        Raises:
            DataError: A folder holds no shards, or a shard is damaged.
        """
        parts = [_shards(folder) for folder in folders]
        self.name = name or folders[0].name.partition(PART)[0]
        self._shards = [shard for shards in parts for shard in shards]
        self._plain_documents = plain
        self._firsts = np.cumsum([0, *(len(shard.sequences) - 1 for shard in self._shards)])
        sizes = [sum(len(shard.sequences) - 1 for shard in shards) for shards in parts]
        self.parts = dict(zip([folder.name for folder in folders], sizes, strict=True))
        """Number of sequences of each part, in order of their numbers; a source without parts is its own."""
        self.sequence_lengths = np.concatenate(
            [np.diff(shard.pieces[shard.sequences]) for shard in self._shards]
        )
        """Tokens of each sequence, int64 (sequences,)."""
        self.has_weights = any(shard.weights is not None for shard in self._shards)

    @cached_property
    def without_loss(self) -> np.ndarray:
        """Tokens of weight 0 in the loss of each sequence, int64 (sequences,)."""
        return np.concatenate([shard.without_loss() for shard in self._shards])

    @cached_property
    def _plain(self) -> list[np.ndarray] | None:
        """Plain pieces of each shard, bool (pieces,)."""
        if self._plain_documents is None:
            return None
        documents = self._plain_documents()
        return [shard.of_pieces(documents) for shard in self._shards]

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def count_parts(self, numbers: np.ndarray) -> dict[str, tuple[int, int, int]]:
        """Return sequences, tokens and tokens of weight 0 of each part among sequences of given numbers."""
        ends = np.cumsum(list(self.parts.values()))
        part = np.searchsorted(ends, numbers, side="right")
        counts = [
            np.bincount(part, of_each, minlength=len(ends)).astype(np.int64).tolist()
            for of_each in (None, self.sequence_lengths[numbers], self.without_loss[numbers])
        ]
        return dict(zip(self.parts, zip(*counts, strict=True), strict=True))

    def tokens_by_group(self, groups: Mapping[str, np.ndarray], times: np.ndarray) -> np.ndarray:
        """Add up the tokens that were read of each group of documents.

        Args:
            groups: For each file of documents the group of each, by its row: int (documents,).
            times: How often each sequence was read: int64 (sequences,).

        Returns:
            int64 (groups,).
        """
        total = np.zeros(max(int(each.max()) for each in groups.values()) + 1)
        for first, shard in zip(self._firsts, self._shards, strict=False):
            pieces = np.diff(shard.sequences)
            tokens = np.diff(shard.pieces) * np.repeat(times[first : first + len(pieces)], pieces)
            total += np.bincount(shard.of_pieces(groups), tokens, len(total))
        return total.astype(np.int64)

    def sequence(self, number: int) -> PackedSequence:
        """Return sequence `number` of 0 .. len - 1."""
        if not 0 <= number < len(self):
            raise IndexError(f"sequence {number} of {len(self)}")
        which = int(np.searchsorted(self._firsts, number, side="right")) - 1
        shard, at = self._shards[which], number - int(self._firsts[which])
        first, last = shard.sequences[at], shard.sequences[at + 1]
        pieces = shard.pieces[first : last + 1]
        tokens = slice(pieces[0], pieces[-1])
        weights = None if shard.weights is None else shard.weights[tokens]
        plain = None if self._plain is None else self._plain[which][first:last]
        return PackedSequence(self.name, shard.tokens[tokens], np.diff(pieces), weights, plain)


def _shards(folder: Path) -> list[_Shard]:
    stems = sorted(path.name.removesuffix(".tokens.npy") for path in folder.glob("shard-*.tokens.npy"))
    if not stems:
        raise DataError(f"{folder}: no token shards", hint="Run the corpus stage again (--force corpus).")
    return [_open(folder, stem) for stem in stems]


def _open(folder: Path, stem: str) -> _Shard:
    """Open a shard, and check that its files fit together."""
    try:
        tokens, pieces, sequences = (
            _mapped(folder / f"{stem}.{part}.npy") for part in ("tokens", "pieces", "sequences")
        )
        path = folder / f"{stem}.weights.npy"
        weights = _mapped(path, "f") if path.exists() else None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _LIMITS:
            raise DataError(
                f"{folder / stem}: the shard cannot be opened: {error.strerror}",
                hint=_LIMITS[error.errno],
            ) from error
        raise DataError(f"{folder / stem}: damaged shard: {error}", hint="Run the stage again.") from error
    fits = pieces[-1] == len(tokens) and sequences[-1] == len(pieces) - 1
    if not fits or (weights is not None and len(weights) != len(tokens)):
        raise DataError(
            f"{folder / stem}: the shard's files do not fit together", hint="Run the stage again."
        )
    return _Shard(str(folder / stem), tokens, pieces, sequences, weights)


def _mapped(path: Path, kinds: str = "iu") -> np.ndarray:
    """Map a one-dimensional numpy file of one of the kinds of numbers into memory, read-only.

    numpy's own map keeps a file descriptor open as long as it lives: with the usual limit of 1,024 a process
    could read 341 shards of three files. Arrow closes the file and keeps the map, which is not writable and
    so counts against no limit of memory.
    """
    import pyarrow

    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        (length,), _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if dtype.kind not in kinds or not length:
        raise ValueError(f"{path.name} does not hold the numbers that it should")
    expected, size = start + length * dtype.itemsize, path.stat().st_size
    if size != expected:
        raise ValueError(f"{path.name} has {size:,} bytes instead of {expected:,}")
    try:
        with pyarrow.memory_map(str(path), "r") as file:
            mapped = file.read_buffer()
    except OSError as error:
        if error.errno is not None:
            raise
        # the file is whole: only the system can refuse to map it
        raise OSError(errno.ENOMEM, "the system maps no more files into memory") from error
    return np.frombuffer(mapped, dtype, offset=start)
