"""Add study documents to a corpus folder: two parts of the domain, and the recall probe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from cpt.atomic import atomic_file
from cpt.corpus.build import check_sums, divide
from cpt.corpus.documents import Document, DocumentWriter, Item, documents_path, read_documents
from cpt.corpus.index import ListedSource, SourceCounts
from cpt.corpus.recall import write_recall
from cpt.corpus.study import questions, reading, shuffled
from cpt.corpus.study.language import Language, load_language
from cpt.corpus.study.mining import Mined, count, mine
from cpt.corpus.study.recall_items import recall_items
from cpt.corpus.study.settings import StudySettings
from cpt.corpus.study.shuffled import shuffled_document
from cpt.corpus.study.write import kinds
from cpt.errors import DataError
from cpt.progress import Progress
from cpt.sources import DOMAIN


def study_documents(
    corpus: Path, settings: StudySettings, seed: int, more: Iterable[Mined] = ()
) -> tuple[Iterator[Document], list[Mined]]:
    """Mine the domain's training documents.

    Args:
        more: Items of no miner: those of ontologies, and those that a model has written.

    Returns:
        Study documents, those of reading first, and the list of all items, which is filled while the
        documents are read.
    """
    language = load_language(settings.language)
    found: list[Mined] = []

    def made() -> Iterator[Document]:
        for document, mined in mine(_training(corpus), settings.miners, language, seed):
            found.extend(mined)
            yield from reading.reading_documents(document, mined, language, settings, seed)
        if settings.shuffle:
            for document in _training(corpus)():
                again = None if document.marked else shuffled_document(document, language, seed)
                if again is not None:
                    yield again
        found.extend(more)
        yield from questions.question_documents(found, language, settings, seed)

    return made(), found


def _training(corpus: Path) -> Callable[[], Iterator[Document]]:
    return lambda: read_documents(corpus, DOMAIN, "train")


def write_study(
    corpus: Path,
    scratch: Path,
    settings: StudySettings,
    seed: int,
    progress: Progress,
    more: Sequence[Mined] = (),
    texts: Iterable[Document] = (),
) -> tuple[SourceCounts, dict[str, Any]]:
    """Write study documents to a corpus folder of their own, and the recall probe to the corpus.

    Args:
        corpus: Corpus with the domain's documents.
        scratch: Folder for the study documents, as training documents of the domain.
        more: Items of ontologies, and those that a model has written.
        texts: Reading documents that a model has written.

    Returns:
        Counts of the study documents, and facts about the items: by miner, and by group of the probe.

    Raises:
        DataError: Nothing was found.
    """
    language = load_language(settings.language)
    documents, mined = study_documents(corpus, settings, seed, more)
    sources = (reading.SOURCE, shuffled.SOURCE, questions.SOURCE, kinds.SOURCE)
    counts = SourceCounts(listed={name: ListedSource(path=f"study of {DOMAIN}") for name in sources})
    with DocumentWriter(documents_path(scratch, DOMAIN, "train")) as writer:
        items: Iterable[Item] = _counted(chain(texts, documents), progress)
        for _, document in divide(items, lambda _: "train", set(), counts):
            writer.write(document)
    if "train" not in counts.splits:
        raise DataError(
            f"study: no question or task was found in the domain's documents by {', '.join(settings.miners)}",
            hint="See what miners look for by `cpt corpus study FILE --inspect`, or leave `study` out.",
        )
    counts.listed = {name: each for name, each in counts.listed.items() if each.documents_in}
    groups: dict[str, int] = {}
    if settings.probe:
        probe = list(
            recall_items(mined, _held_out(corpus, settings, language, seed), language, settings, seed)
        )
        write_recall(corpus, probe)
        for item in probe:
            groups[item.group] = groups.get(item.group, 0) + 1
    facts = {each.item.fact for each in mined if each.closed}
    return counts, {"facts": len(facts), "items": count(mined), "probe": groups}


def _held_out(corpus: Path, settings: StudySettings, language: Language, seed: int) -> Iterator[Mined]:
    """Yield the items of the held-out documents; those ask for facts that are not trained on."""
    if not documents_path(corpus, DOMAIN, "heldout").exists():
        return
    every = mine(lambda: read_documents(corpus, DOMAIN, "heldout"), settings.miners, language, seed)
    for _, mined in every:
        yield from mined


def _counted(documents: Iterable[Document], progress: Progress) -> Iterator[Document]:
    for number, document in enumerate(documents, start=1):
        if number % 1000 == 0:
            progress.message(f"{number:,} study documents")
        yield document


def add_study(corpus: Path, counts: SourceCounts, scratch: Path, study: SourceCounts) -> None:
    """Append the study documents of a folder to the domain's training documents, and their counts.

    Raises:
        DataError: The counts do not add up.
    """
    path = documents_path(corpus, DOMAIN, "train")
    with atomic_file(path, durable=False) as target, DocumentWriter(target) as writer:
        # Parts one after the other, so that only one is packed in memory at a time.
        for document in chain(
            read_documents(corpus, DOMAIN, "train"), read_documents(scratch, DOMAIN, "train")
        ):
            writer.write(document)
    train, more = counts.splits["train"], study.splits["train"]
    train.documents += more.documents
    train.bytes += more.bytes
    train.cut += more.cut
    train.marked += more.marked
    train.listed |= more.listed
    counts.documents_in += study.documents_in
    counts.bytes_in += study.bytes_in
    counts.listed |= study.listed
    counts.add(study)
    check_sums(counts)
