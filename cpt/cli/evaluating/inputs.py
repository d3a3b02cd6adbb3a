"""Open the inputs of evaluations: the hub or local files, texts in any format, a run's corpus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.cli.evaluating.progress import Shown
from cpt.cli.tokenizer.options import source_of
from cpt.errors import UsageError
from cpt.references import resolve_file

if TYPE_CHECKING:
    from cpt.corpus.documents import Document

_INDEX = "corpus.json"


def leaving_hub_alone(offline: bool) -> AbstractContextManager[None]:
    """The option --offline."""
    from evals.hub import left_alone

    return left_alone() if offline else nullcontext()


def documents_of(name: str, removed: dict[str, int], view: Shown) -> Iterator[Document]:
    """Documents of a file or folder; entries that are none are counted in `removed`, by reason."""
    from cpt.corpus.documents import Document
    from cpt.corpus.readers import read

    for item in read(file_of(name, view), source_of(name)["format"]):
        if isinstance(item, Document):
            yield item
        else:
            removed[item.reason] = removed.get(item.reason, 0) + 1


def file_of(name: str, view: Shown) -> Path:
    """The file or folder of a text that a user names.

    Raises:
        ReferenceUnavailable: there is none.
    """
    return resolve_file(source_of(name)["path"], view)


def corpus_folder(place: Path) -> Path:
    """The corpus of an artifact's folder, of a run's folder (the newest of several), or the folder itself.

    Raises:
        UsageError: there is none.
    """
    if (place / _INDEX).is_file():
        return place
    found = [*place.glob(f"corpus/{_INDEX}"), *place.glob(f"*/corpus/{_INDEX}")]
    if not found:
        raise UsageError(
            f"{place} holds no corpus",
            hint="Name a run's folder, or that of its corpus stage (cpt show RUN).",
        )
    return max(found, key=lambda file: file.stat().st_mtime_ns).parent


def training_documents(corpus: Path) -> Iterator[tuple[str, str, str]]:
    """Source, id and text of every document that a corpus has for training."""
    from cpt.corpus import read_documents, read_index

    for name, source in read_index(corpus).sources.items():
        if "train" in source.splits:
            for document in read_documents(corpus, name, "train"):
                yield name, document.id, document.text
