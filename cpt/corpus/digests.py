"""Keep digests of documents in 16 bytes each: a list of them, and a set that grows in bounded memory.

Python's set of bytes takes 85 bytes a document and more: 17 GB for the 200 million documents of some 200B
tokens. `DigestSet` takes 16 bytes in files that are mapped into memory, and holds the newest quarter of a
million digests (25 MB) itself.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from cpt.corpus.links import link
from cpt.corpus.mapped import read_mapped
from cpt.models.encoding import blocks

DIGEST = 16
"""Bytes of a document's digest."""

_NEW, _GONE = "newest", "gone"
_NEWEST = 1 << 18
"""Digests in memory before they are sorted into a run."""

_AT_ONCE = 1 << 20
"""Digests that are merged at once, about: 50 MB."""


def digest(text: str) -> bytes:
    """Hash a text to 16 bytes, equal for texts that differ only in Unicode form or white space."""
    hashed, space = hashlib.blake2b(digest_size=16), ""
    for block in blocks(text):  # a list of all words of a long text would be ten times as large as the text
        if words := unicodedata.normalize("NFC", block).split():
            hashed.update(f"{space}{' '.join(words)}".encode())
            space = " "
    return hashed.digest()


class KeySet(Protocol):
    """A set of digests that grows: `DigestSet`, or a Python set where there are few."""

    def __contains__(self, key: object, /) -> bool: ...

    def add(self, key: bytes, /) -> None: ...

    def discard(self, key: bytes, /) -> None: ...


class Digests(Sequence[bytes]):
    """A list of digests, one after the other in memory."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._bytes = bytearray()
        for key in keys:
            self.append(key)

    def append(self, key: bytes) -> None:
        """Add a digest of 16 bytes."""
        if len(key) != DIGEST:
            raise ValueError(f"a digest has {DIGEST} bytes, not {len(key)}")
        self._bytes += key

    def halves(self) -> np.ndarray:
        """Return the digests as numbers that are ordered as their bytes are: uint64 (2, digests)."""
        return _halves(self._bytes)

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> Digests: ...

    def __getitem__(self, at: int | slice) -> bytes | Digests:
        if isinstance(at, slice):
            return Digests(self[place] for place in range(*at.indices(len(self))))
        place = range(len(self))[at] * DIGEST
        return bytes(self._bytes[place : place + DIGEST])

    def __len__(self) -> int:
        return len(self._bytes) // DIGEST


class DigestSet:
    """A set of digests: the newest in a Python set, the others in sorted runs.

    A full Python set becomes a run, and is merged with those before it that are no larger: so there are few
    runs, at most about log2(digests / 2^18), and a digest is copied as often.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Begin an empty set, or go on with one that `save` has written.

        Args:
            folder: Folder of the runs, mapped into memory; None: they are in memory.
        """
        self._folder = folder
        self._newest: set[bytes] = set()
        self._gone: set[bytes] = set()
        self._runs: list[_Run] = []
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._runs = [_Run.of(file) for file in sorted(folder.glob("*.npy"))]
        for file, keys in ((folder / _NEW, self._newest), (folder / _GONE, self._gone)):
            if file.exists():
                keys.update(_cut(file.read_bytes()))

    def __contains__(self, key: object) -> bool:
        if key in self._newest:
            return True
        return isinstance(key, bytes) and key not in self._gone and self._in_runs(key)

    def __len__(self) -> int:
        return len(self._newest) + sum(len(run) for run in self._runs) - len(self._gone)

    def add(self, key: bytes) -> None:
        """Add a digest."""
        if key in self._gone:
            self._gone.remove(key)
        elif key not in self:
            self._newest.add(key)
            if len(self._newest) >= _NEWEST:
                self._sort()

    def discard(self, key: bytes) -> None:
        """Remove a digest, if it is there. One that is in a run is noted in a Python set."""
        if key in self._newest:
            self._newest.remove(key)
        elif key in self:
            self._gone.add(key)

    def save(self, folder: Path) -> None:
        """Write the set into an empty folder; runs that are in files appear there as hard links."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, run in enumerate(self._runs):
            if run.file is None:
                np.save(folder / _name(number), run.halves)
            else:
                link(run.file, folder / run.file.name)
        (folder / _NEW).write_bytes(b"".join(sorted(self._newest)))
        (folder / _GONE).write_bytes(b"".join(sorted(self._gone)))

    def _in_runs(self, key: bytes) -> bool:
        high, low = (np.uint64(int.from_bytes(half)) for half in (key[:8], key[8:]))
        for run in self._runs:
            highs, lows = run.halves
            at = int(highs.searchsorted(high))
            while at < len(highs) and highs[at] == high:
                if lows[at] == low:
                    return True
                at += 1
        return False

    def _sort(self) -> None:
        """Make the newest digests a run, merged with those before it that are no larger."""
        newest = _halves(b"".join(self._newest))
        merged = [_Run(newest[:, newest[0].argsort()])]
        while self._runs and len(self._runs[-1]) <= sum(map(len, merged)):
            merged.append(self._runs.pop())
        self._runs.append(self._merged(merged))
        self._newest = set()
        for run in merged:
            if run.file is not None:
                run.file.unlink()

    def _merged(self, runs: Sequence[_Run]) -> _Run:
        """Merge runs, a stretch of values at a time: digests are spread evenly over them."""
        size, file = sum(map(len, runs)), None
        if self._folder is None:
            merged = np.empty((2, size), dtype=np.uint64)
        else:
            last = max((int(each.stem) for each in self._folder.glob("*.npy")), default=-1)
            file = self._folder / _name(last + 1)
            merged = np.lib.format.open_memmap(file, "w+", np.uint64, (2, size))
        stretches, end = -(-size // _AT_ONCE), 0
        begins = [0] * len(runs)
        for stretch in range(1, stretches + 1):
            edge = np.uint64((stretch << 64) // stretches - 1)
            stops = [int(run.halves[0].searchsorted(edge, side="right")) for run in runs]
            cut = zip(runs, begins, stops, strict=True)
            found = np.concatenate([run.halves[:, begin:stop] for run, begin, stop in cut], axis=1)
            begin, end = end, end + found.shape[1]
            merged[:, begin:end] = found[:, found[0].argsort()]
            begins = stops
        return _Run(merged) if file is None else _Run.of(file)


@dataclass(frozen=True)
class _Run:
    """Digests as numbers, uint64 (2, digests), in the order of their first halves."""

    halves: np.ndarray
    file: Path | None = None

    @classmethod
    def of(cls, file: Path) -> _Run:
        return cls(read_mapped(file, dimensions=2), file)

    def __len__(self) -> int:
        return int(self.halves.shape[1])


def _halves(keys: bytes | bytearray) -> np.ndarray:
    """Return digests as numbers that are ordered as their bytes are: uint64 (2, digests)."""
    return np.frombuffer(keys, ">u8").reshape(-1, 2).T.astype(np.uint64)


def _cut(keys: bytes) -> Iterator[bytes]:
    return (keys[at : at + DIGEST] for at in range(0, len(keys), DIGEST))


def _name(number: int) -> str:
    return f"{number:06d}.npy"
