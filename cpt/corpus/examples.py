"""Keep examples of the documents that a corpus removes or rewrites: `examples.jsonl` in its folder."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from cpt.errors import DamagedFile

FILE = "examples.jsonl"

LISTINGS = (FILE, "contamination.jsonl")
"""Files of a corpus folder that list documents that were removed or changed."""

_MOST = 20
_CHARACTERS = 600


class Example(NamedTuple):
    """One document that was removed or rewritten.

    Attributes:
        source: Name of its source.
        block: Name of the block, as in the ledger.
        id: The document's id.
        detail: The finer reason, if the block gives one.
        before: An excerpt of its text.
        after: An excerpt of what was made of it; None if it was removed.
        like: An excerpt of the document that it was removed for; None without one.
    """

    source: str
    block: str
    id: str
    detail: str
    before: str
    after: str | None
    like: str | None = None


_Order = tuple[tuple[bool, str], ...]


def _order(example: Example) -> _Order:
    """Return what examples of equal rank are ordered by; texts and None cannot be compared."""
    return tuple((text is not None, text or "") for text in example)


class Examples:
    """A bounded collection: of each block the documents with the lowest hashes, whatever the order."""

    def __init__(self, source: str, most: int = _MOST) -> None:
        self._source, self._most = source, most
        self._kept: dict[str, list[tuple[int, _Order, Example]]] = {}

    def add(
        self,
        block: str,
        id: str,
        before: str,
        after: str | None = None,
        detail: str = "",
        like: str | None = None,
    ) -> None:
        """Add a document, if it is one of the block's examples."""
        kept = self._kept.setdefault(block, [])
        rank = _rank(block, id)
        if len(kept) == self._most and rank < kept[0][0]:
            return
        other = after if like is None else like
        before, other = _excerpts(before, other)
        texts = (before, other) if like is None else (before, None, other)
        self._keep(rank, Example(self._source, block, id, detail, *texts))

    def merge(self, others: Iterable[Example]) -> None:
        """Add the examples that another process collected of the same source."""
        for example in others:
            self._keep(_rank(example.block, example.id), example)

    def _keep(self, rank: int, example: Example) -> None:
        kept = self._kept.setdefault(example.block, [])
        (heapq.heappush if len(kept) < self._most else heapq.heappushpop)(
            kept, (rank, _order(example), example)
        )

    @property
    def source(self) -> str:
        """Return the name of the source."""
        return self._source

    def __iter__(self) -> Iterator[Example]:
        """Yield the examples by block and id, whatever the order in which they came."""
        for _, kept in sorted(self._kept.items()):
            for _, _, example in sorted(kept, key=lambda each: (each[2].id, each[1])):
                yield example


def _rank(block: str, id: str) -> int:
    """Return the negative hash of a document of a block."""
    return -int.from_bytes(blake2b(f"{block}\0{id}".encode(), digest_size=8).digest(), "little")


def _excerpts(text: str, other: str | None) -> tuple[str, str | None]:
    """Return the beginnings of both texts, or what surrounds their first difference."""
    if other is None:
        return text[:_CHARACTERS], None
    same = next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
    first = max(0, same - _CHARACTERS // 4)
    return text[first : first + _CHARACTERS], other[first : first + _CHARACTERS]


def write_examples(corpus: Path, examples: list[Example]) -> None:
    """Write examples into a corpus folder."""
    lines = (json.dumps(example._asdict(), ensure_ascii=False) + "\n" for example in examples)
    (corpus / FILE).write_text("".join(lines), encoding="utf-8")


def read_examples(corpus: Path) -> list[Example]:
    """Read a corpus folder's examples; none if it was made without.

    Raises:
        DamagedFile: The file is cut or changed; names the line.
    """
    path = corpus / FILE
    if not path.exists():
        return []
    found = []
    # Texts hold U+2028 and other ends of lines of `str.splitlines` unescaped.
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        try:
            found += [Example(**json.loads(line))] if line else []
        except (ValueError, TypeError, RecursionError) as error:
            hint = "Run the corpus stage again (--force corpus)."
            raise DamagedFile(path, f"no example: {error}", line=number, hint=hint) from error
    return found
