"""Work on documents that shouts, notes what it sees, and fails on demand; machines of a cluster import it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cpt.corpus.documents import Document
from cpt.corpus.items import read_items, write_items
from cpt.corpus.tasks import Tasks, Work
from cpt.errors import DataError

DOCUMENTS = [Document(f"d{number}", f"text {number} " * 9, source="a") for number in range(100)]
EXPECTED = [(document.id, document.text.upper()) for document in DOCUMENTS]


def shouter(noted: Path, _: str = "") -> Callable[[list[Document]], list[tuple[str, str]]]:
    """Work that notes the documents it sees, and fails at one that is named in a file beside."""
    failing = noted.with_name("fail")

    def shout(documents: list[Document]) -> list[tuple[str, str]]:
        with noted.open("a") as file:
            file.writelines(f"{document.id}\n" for document in documents)
        if failing.exists() and any(document.id == failing.read_text() for document in documents):
            raise DataError(f"cannot read {failing.read_text()}", hint="mend it")
        return [(document.id, document.text.upper()) for document in documents]

    return shout


def write_results(path: Path, key: str, results: list[list[tuple[str, str]]]) -> None:
    path.write_text(json.dumps([key, [pair for result in results for pair in result]]))


def read_results(path: Path) -> tuple[str, list[list[tuple[str, str]]]]:
    key, pairs = json.loads(path.read_text())
    return key, [[(id, text) for id, text in pairs]]


def work(noted: Path, setting: str = "") -> Work[Document, list[tuple[str, str]]]:
    return Work(
        shouter,
        (noted, setting),
        lambda document: len(document.text),
        repr,
        write_items,
        read_items,
        write_results,
        read_results,
    )


def seen(noted: Path) -> list[str]:
    found = noted.read_text().split() if noted.exists() else []
    noted.unlink(missing_ok=True)
    return found


def done(tasks: Tasks, noted: Path, documents: list[Document] = DOCUMENTS) -> list[tuple[str, str]]:
    return [pair for result in tasks.map(work(noted), documents) for pair in result]
