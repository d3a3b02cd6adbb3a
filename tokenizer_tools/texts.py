"""Texts for the vocabulary tools: strings, or files in any format that a corpus stage reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cpt.corpus.readers import Format

TextSource: TypeAlias = Path | Iterable[str | Path]
"""Texts as strings, paths of files or folders of documents, or both; a single path may stand alone."""


@dataclass(frozen=True)
class TextFile:
    """A file or folder of documents.

    Attributes:
        name: Name of the file in messages.
        path: Local path of the file or folder.
        format: Format as in a recipe's corpus source: "text", "jsonl", …, or "auto".
    """

    name: str
    path: Path
    format: Format


def text_file(path: Path, name: str | None = None) -> TextFile:
    """Return a local file or folder of documents; a file name without a known suffix means plain text."""
    from cpt.corpus.readers import format_of

    plain = path.is_file() and format_of(path) is None
    return TextFile(name or str(path), path, "text" if plain else "auto")


def passes_over_files(files: Sequence[TextFile]) -> Callable[[], Iterator[str]]:
    """Return a function that starts a pass over the documents of files.

    The function raises `DataError` when a later pass reads other content than the first: merges would be
    learned on one text and embeddings on another.
    """
    first: dict[Path, Mapping[Path, str]] = {}

    def texts() -> Iterator[str]:
        from cpt.corpus.documents import Document
        from cpt.corpus.readers import ReadFiles, read
        from cpt.references.resolve import changed

        for file in files:
            contents = ReadFiles()
            for item in read(file.path, file.format, files=contents):
                if isinstance(item, Document):
                    yield item.text
            found = contents.of(file.path)
            if first.setdefault(file.path, found) != found:
                raise changed(file.name)

    return texts


def passes(texts: TextSource) -> Callable[[], Iterator[str]]:
    """Return a function that starts a pass over texts.

    An iterator is read into memory, since learning passes over the texts several times.

    Raises:
        TypeError: The texts are one string, whose characters would be taken for texts.
        MissingInput: A path does not exist.
    """
    from cpt.references import resolve_file

    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of texts or paths: write [text] or Path(file)")
    given: Iterable[str | Path] = [texts] if isinstance(texts, Path) else texts
    items = list(given) if iter(given) is given else given
    if isinstance(items, Sequence):
        for item in items:
            if isinstance(item, Path):
                resolve_file(str(item))

    def start() -> Iterator[str]:
        for item in items:
            if isinstance(item, Path):
                yield from files.setdefault(item, passes_over_files([text_file(item)]))()
            else:
                yield item

    files: dict[Path, Callable[[], Iterator[str]]] = {}
    return start
