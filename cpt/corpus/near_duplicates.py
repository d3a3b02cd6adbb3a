"""Remove near-duplicates from training text, within and across the sources of a corpus.

Documents are looked at in reading order. One that shares a band with an earlier document, and is as similar
as the threshold asks (by the share of equal numbers in their signatures), is removed. Only documents that
stay are compared with, so a document that is removed always resembles one that is kept or held out. Connected
components, the usual rule, would also remove the end of a chain of documents that each resemble the next. The
result depends on the order of the documents, and on nothing else.

Memory: 4 bytes for each band of each document, and some numbers of 8 bytes. Signatures are in a file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from cpt.atomic import write_text
from cpt.corpus.build import describe
from cpt.corpus.documents import Document, read_documents
from cpt.corpus.examples import Example, Examples
from cpt.corpus.index import SourceCounts
from cpt.corpus.minhash import MinHash, band_keys, is_empty, sign
from cpt.corpus.selection import KEPT, keep
from cpt.errors import DataError
from cpt.progress import Progress

NEAR_DUPLICATE = "near_duplicate"
NEAR_DUPLICATE_OF_HELDOUT = "near_duplicate_of_heldout"

_EXAMPLES = 20
_SHOWN = 1 << 16
_ROWS_AT_ONCE = 1 << 16
_FLUSHED_AT_ONCE = 4096
"""Number of signatures between two flushes to the disk: five seconds of work."""


@dataclass(frozen=True)
class Resemblance:
    """The document that each document is removed for.

    Attributes:
        to: int64 (documents,), place of a document that stays or is held out; -1 for documents that stay.
        similarity: float32 (documents,), estimated similarity of the two; 0 for documents that stay.
    """

    to: np.ndarray
    similarity: np.ndarray


def find_near_duplicates(signatures: np.ndarray, trains: np.ndarray, settings: MinHash) -> Resemblance:
    """Find the near-duplicates among documents in reading order.

    Args:
        signatures: uint32 (documents, numbers), in memory or in a file.
        trains: bool (documents,), false for held-out documents, which come first and always stay.

    Returns:
        For every training document that does not stay the most similar document that does, a held-out one
        if any is similar enough.
    """
    found = Resemblance(np.full(len(trains), -1, np.int64), np.zeros(len(trains), np.float32))
    groups = _groups(signatures, settings)
    stay: dict[int, list[int]] = {}
    for place in np.flatnonzero((groups >= 0).any(axis=1)).tolist():
        mine = [group for group in groups[place].tolist() if group >= 0]
        others = sorted({other for group in mine for other in stay.get(group, ())}) if trains[place] else []
        if others:
            alike = (signatures[others] == signatures[place]).mean(axis=1)
            able = np.flatnonzero(alike >= settings.similarity).tolist()
            # a held-out document is named first: a copy of it may not train, whatever else it is like
            best = max(able, key=lambda at: (not trains[others[at]], alike[at]), default=None)
            if best is not None:
                found.to[place], found.similarity[place] = others[best], alike[best]
                continue
        for group in mine:
            stay.setdefault(group, []).append(place)
    return found


def _groups(signatures: np.ndarray, settings: MinHash) -> np.ndarray:
    """Number the groups of documents that share a band: int32 (documents, bands), -1 for no group."""
    count = len(signatures)
    groups = np.full((count, settings.bands), -1, np.int32)
    worded = np.zeros(count, dtype=bool)
    for rows in _slices(count):
        worded[rows] = ~is_empty(signatures[rows])
    next_group = 0
    for band in range(settings.bands):
        keys = np.zeros(count, dtype=np.uint64)
        for rows in _slices(count):
            keys[rows] = band_keys(signatures[rows], band, settings.rows)
        able = np.flatnonzero(worded)
        _, group, size = np.unique(keys[able], return_inverse=True, return_counts=True)
        shared = size[group] > 1
        numbers = np.cumsum(size > 1, dtype=np.int64) - 1 + next_group
        groups[able[shared], band] = numbers[group[shared]]
        next_group += int((size > 1).sum())
    return groups


def _slices(count: int) -> Iterator[slice]:
    for begin in range(0, count, _ROWS_AT_ONCE):
        yield slice(begin, min(begin + _ROWS_AT_ONCE, count))


@dataclass(frozen=True)
class _Part:
    """Documents of one side of one source: the places from `begin` to `end` of all documents."""

    source: str
    side: str
    begin: int
    end: int

    @property
    def places(self) -> slice:
        """Return the places as a slice."""
        return slice(self.begin, self.end)


def remove_near_duplicates(
    corpus: Path,
    sources: dict[str, SourceCounts],
    settings: MinHash,
    work: Path,
    progress: Progress,
) -> list[Example]:
    """Remove the near-duplicates from the training text of a corpus, and count them.

    Args:
        sources: Counts of each source, changed here. Of near-duplicates in two sources, the one in the first
            source stays.
        work: Folder for the signatures, which are removed in the end.

    Returns:
        Examples of the removed documents, by source and reason, spread over their similarities.

    Raises:
        DataError: A source has no training document left.
    """
    parts = _parts(sources)
    total = parts[-1].end if parts else 0
    with _signed(corpus, parts, settings, work, progress) as signatures:
        trains = np.zeros(total, dtype=bool)
        for part in parts:
            trains[part.places] = part.side == "train"
        found = find_near_duplicates(signatures, trains, settings)
    examples = _examples(corpus, parts, trains, found)
    for part in parts:
        if part.side != "train":
            continue
        to = found.to[part.places]
        reasons = np.full(len(to), KEPT, dtype=object)
        reasons[to >= 0] = np.where(trains[to[to >= 0]], NEAR_DUPLICATE, NEAR_DUPLICATE_OF_HELDOUT)
        _require_some(part.source, reasons)
        if (to >= 0).any():
            keep(corpus, part.source, sources[part.source], reasons)
        progress.message(f"{part.source}, without near-duplicates: {describe(sources[part.source])}")
    return examples


def _parts(sources: dict[str, SourceCounts]) -> list[_Part]:
    """Return all documents in reading order: held-out text, which stays, then training text."""
    parts: list[_Part] = []
    for side in ("heldout", "train"):
        for name, counts in sources.items():
            if side in counts.splits:
                begin = parts[-1].end if parts else 0
                parts.append(_Part(name, side, begin, begin + counts.splits[side].documents))
    return parts


@contextlib.contextmanager
def _signed(
    corpus: Path, parts: Sequence[_Part], settings: MinHash, work: Path, progress: Progress
) -> Iterator[np.ndarray]:
    """Yield the signatures of all documents: uint32 (documents, numbers), in a file that is removed then."""
    work.mkdir(parents=True, exist_ok=True)
    file, total = work / "signatures", parts[-1].end if parts else 0
    row = 4 * settings.numbers
    done = _signed_before(file, row)
    texts = (document.text for part in parts for document in read_documents(corpus, part.source, part.side))
    with file.open("ab") as out:
        out.truncate(done * row)
        flushed = done
        for batch in sign(islice(texts, done, None), settings):
            out.write(batch.tobytes())
            done += len(batch)
            progress.update(done, total, "documents")
            if done - flushed >= _FLUSHED_AT_ONCE:
                out.flush()
                os.fsync(out.fileno())
                write_text(_count_file(file), str(done))
                flushed = done
    if done != total:
        raise DataError(f"{corpus}: {done:,} documents, but {total:,} are counted", hint="Report this.")
    empty = np.zeros((0, settings.numbers), np.uint32)
    yield np.memmap(file, np.uint32, "r", shape=(total, settings.numbers)) if total else empty
    file.unlink()
    _count_file(file).unlink(missing_ok=True)


def _count_file(file: Path) -> Path:
    return file.with_suffix(".count")


def _signed_before(file: Path, row: int) -> int:
    """Return the number of signatures that a killed attempt is known to have on the disk."""
    try:
        return min(int(_count_file(file).read_text()), file.stat().st_size // row)
    except (OSError, ValueError):
        return 0


def _require_some(source: str, reasons: np.ndarray) -> None:
    if (reasons == KEPT).any():
        return
    raise DataError(
        f"{source}: all {len(reasons):,} training documents are near-duplicates of held-out documents or of "
        "documents of an earlier source",
        hint="Leave the source out, or set deduplicate: exact.",
    )


def _examples(corpus: Path, parts: Sequence[_Part], trains: np.ndarray, found: Resemblance) -> list[Example]:
    """Return examples by source and reason, evenly spaced from the least to the most similar."""
    chosen: list[tuple[_Part, str, list[int]]] = []
    for part in parts:
        removed = part.begin + np.flatnonzero(found.to[part.places] >= 0)
        of_training = trains[found.to[removed]]
        for reason, these in (
            (NEAR_DUPLICATE, removed[of_training]),
            (NEAR_DUPLICATE_OF_HELDOUT, removed[~of_training]),
        ):
            ordered = these[np.argsort(found.similarity[these], kind="stable")]
            spaced = np.unique(np.linspace(0, len(ordered) - 1, min(_EXAMPLES, len(ordered))).round())
            chosen.append((part, reason, ordered[spaced.astype(np.int64)].tolist()))
    wanted = {place for _, _, places in chosen for each in places for place in (each, int(found.to[each]))}
    documents = dict(_documents_at(corpus, parts, wanted))
    examples: list[Example] = []
    for part, reason, places in chosen:
        kept = Examples(part.source)
        for place in places:
            document, (source, other) = documents[place][1], documents[int(found.to[place])]
            detail = f"{found.similarity[place]:.0%} like {source}: {other.id}"
            kept.add(reason, document.id, document.text, detail=detail, like=other.text)
        examples.extend(kept)
    return examples


def _documents_at(
    corpus: Path, parts: Sequence[_Part], wanted: set[int]
) -> Iterator[tuple[int, tuple[str, Document]]]:
    """Yield places with the source and the beginning of the document there."""
    for part in parts:
        if not any(part.begin <= place < part.end for place in wanted):
            continue
        for place, document in enumerate(read_documents(corpus, part.source, part.side), part.begin):
            if place in wanted:
                yield place, (part.source, Document(document.id, document.text[:_SHOWN], document.ended))
