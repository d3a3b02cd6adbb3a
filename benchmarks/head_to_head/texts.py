"""Divide texts into what trains, what merge weights are chosen by, and what is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from forgetting import passages


class Texts(NamedTuple):
    """Files of one domain and seed, in JSONL.

    Attributes:
        train: Documents of the domain, whole; every contender has the same.
        choose: Passages of general text by which merge weights are chosen.
        domain: Passages of the domain that are measured.
        general: Passages of general text that are measured.
    """

    train: Path
    choose: Path
    domain: Path
    general: Path


def divide(domain: Path, general: Path, share: float, seed: int, folder: Path) -> Texts:
    """Divide the documents of both texts by a seeded hash of each, and write the parts.

    Args:
        share: Share of the domain's documents that are measured. Of general text half is.
        folder: Folder for the parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    train, measured = _parts(domain, share, seed)
    choose, kept = _parts(general, 0.5, seed)
    parts = Texts(train, _cut(choose), _cut(measured), _cut(kept))
    return Texts(*(_write(folder / f"{name}.jsonl", texts) for name, texts in parts._asdict().items()))


def read_texts(file: Path) -> list[str]:
    """Return the texts of a file, of any format that cpt reads."""
    return list(_documents(file))


def _documents(file: Path) -> Iterator[str]:
    from cpt.corpus.documents import Document
    from cpt.corpus.readers import read

    yield from (item.text for item in read(file) if isinstance(item, Document))


def _parts(file: Path, share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the documents below and above a share."""
    parts: tuple[list[str], list[str]] = ([], [])
    for text in _documents(file):
        digest = hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=4).digest()
        parts[int.from_bytes(digest, "little") < share * 2**32].append(text)
    if not all(parts):
        raise SystemExit(f"{file}: its {sum(map(len, parts))} documents are too few to be divided")
    return parts


def _cut(documents: Sequence[str]) -> list[str]:
    return [piece for document in documents for piece in passages(document)]


def _write(path: Path, texts: Sequence[str]) -> Path:
    """Write texts; return the file. A file that is there already has the same content."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        part.rename(path)
    return path
