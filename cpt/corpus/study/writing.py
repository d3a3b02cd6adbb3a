"""Add study documents to a corpus folder: two parts of the domain, and the recall probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from cpt.atomic import atomic_file
from cpt.corpus.build import check_sums, divide
from cpt.corpus.digests import DigestSet
from cpt.corpus.documents import Document, DocumentWriter, Item, documents_path, read_documents
from cpt.corpus.heldout import Always
from cpt.corpus.index import ListedSource, SourceCounts
from cpt.corpus.recall import write_recall
from cpt.corpus.study import questions, reading, shuffled
from cpt.corpus.study.benchmark_questions import Unwanted
from cpt.corpus.study.facts import Facts, named_in
from cpt.corpus.study.items import Item as StudyItem
from cpt.corpus.study.items import fact_key
from cpt.corpus.study.language import load_language
from cpt.corpus.study.miners.ontology import balanced
from cpt.corpus.study.mining import Counts, Documents, Mined, Mining
from cpt.corpus.study.recall_items import recall_items
from cpt.corpus.study.settings import StudySettings
from cpt.corpus.study.shuffled import shuffled_document
from cpt.corpus.study.write import kinds
from cpt.corpus.study.write.writer import Written
from cpt.errors import DataError
from cpt.progress import Progress
from cpt.sources import DOMAIN, QUESTIONS

Write = Callable[[Collection[str]], Written]
"""A model that writes about the training documents; it takes the terms of facts that are only probed."""


def write_study(
    corpus: Path,
    scratch: Path,
    settings: StudySettings,
    seed: int,
    progress: Progress,
    ontologies: Sequence[Mined] = (),
    write: Write | None = None,
    replay: Documents = lambda: (),
    clean: Callable[[SourceCounts], None] = lambda _: None,
    unwanted: Unwanted = lambda _: False,
) -> tuple[SourceCounts, dict[str, Any]]:
    """Write study documents to a corpus folder of their own, and the recall probe to the corpus.

    Args:
        corpus: Corpus with the domain's documents.
        scratch: Folder for the study documents, as training documents of the domain.
        ontologies: Items of ontologies. Those on what held-out documents say are left out.
        write: A model that writes about the documents.
        replay: Documents of the replay, which the probe must not find its facts in.
        clean: Function that removes study documents from the folder and their counts. The probe takes what
            is left for trained on.
        unwanted: Function that returns True for items that are left out.

    Returns:
        Counts of the study documents, and facts about the items: by miner, and by group of the probe.

    Raises:
        DataError: Nothing was found.
    """
    language, facts = load_language(settings.language), Facts(settings.trained, seed)
    training, held_out = _documents(corpus, "train"), _documents(corpus, "heldout")
    ontologies = _not_held_out(ontologies, held_out)
    mining = Mining(training, settings.miners, language, facts, seed, held_out, unwanted)
    in_documents = set(facts.known)
    for each in ontologies:
        facts.add(each)
    ontologies = balanced([each for each in ontologies if not unwanted(each)], facts.is_trained)
    written = write(facts.probed() if settings.probe else ()) if write else Written([], [], {})
    for each in written.items:
        facts.add(each)
    written_items = [each for each in written.items if not unwanted(each)]
    closed, asked, counted = [*written_items], list[questions.Asked](), Counts()

    def made() -> Iterator[Document]:
        yield from written.documents
        for document in training():
            mined = mining.items(document)
            for each in mined:
                counted.add(each)
            closed.extend(each for each in mined if each.closed)
            yield from reading.reading_documents(
                document, mined, facts, language, settings, seed, mining.balance
            )
        if settings.shuffle:
            for document in training():
                again = None if document.marked else shuffled_document(document, language, seed)
                if again is not None:
                    yield again
        asked.extend(questions.ask([*closed, *ontologies], facts, language, settings, seed))
        yield from questions.question_documents(asked, seed)

    counts = _write(scratch, made(), progress)
    for each in (*ontologies, *written_items):
        counted.add(each)
    if "train" not in counts.splits:
        raise DataError(
            f"study: no question or task was found in the domain's documents by {', '.join(settings.miners)}",
            hint="See what miners look for by `cpt corpus study FILE --inspect`, or leave `study` out.",
        )
    clean(counts)
    groups: Counter[str] = Counter()
    if settings.probe:
        study = _documents(scratch, "train")
        known = _not_asked_in(replay, closed, facts)
        absent = [each for document in held_out() for each in mining.items(document) if each.closed]
        absent += [each for each in ontologies if not facts.is_trained(each.item.fact)]
        absent = _absent(absent, in_documents, facts, lambda: chain(training(), study(), replay()))
        pool = [*closed, *(each for each in ontologies if facts.is_trained(each.item.fact))]
        probe = list(
            recall_items(_still_asked(asked, study), known, absent, pool, facts, language, settings, seed)
        )
        write_recall(corpus, probe)
        groups.update(item.group for item in probe)
    found: dict[str, Any] = {"facts": len(facts), "items": counted.as_json(), "probe": dict(groups)}
    if write:
        found["written"] = written.facts
    return counts, found


def _documents(corpus: Path, split: str) -> Documents:
    if not documents_path(corpus, DOMAIN, split).exists():
        return lambda: ()
    return lambda: read_documents(corpus, DOMAIN, split)


def _not_held_out(items: Sequence[Mined], held_out: Documents) -> list[Mined]:
    """Return the items on facts of which no held-out document has a line that says them.

    Where a domain is an ontology itself, its held-out terms are not to be asked about.
    """
    if not items:
        return []
    lines = {fact_key(line) for document in held_out() for line in document.text.splitlines()}
    told = {each.item.fact for each in items if fact_key(each.item.answer) in lines}
    return [each for each in items if each.item.fact not in told and each.item.fact not in lines]


def _still_asked(asked: Iterable[questions.Asked], study: Documents) -> list[StudyItem]:
    """Return the items whose questions are in the study documents, each once."""
    documents = (document for document in study() if document.part == QUESTIONS)
    left = {pair for document in documents for pair in questions.prompts_and_answers(document)}
    found = (each for each in asked if (each.question.prompt, each.question.answer) in left)
    return list({id(each.item): each.item for each in found}.values())


def _not_asked_in(replay: Documents, items: Iterable[Mined], facts: Facts) -> list[Mined]:
    """Return the items on facts that are only probed, in the replay's study documents too."""
    probed = [each for each in items if facts.may_probe(each)]
    texts = (each.text for each in replay() if each.source in (reading.SOURCE, questions.SOURCE))
    named = named_in(texts, sorted({each.item.fact for each in probed}))
    return [each for each in probed if each.item.fact not in named]


def _absent(items: Sequence[Mined], known: Collection[str], facts: Facts, training: Documents) -> list[Mined]:
    """Return the items on facts that no training document states or names."""
    stated = {facts.of(key) for key in known}
    unknown = [each for each in items if facts.of(each.item.fact) not in stated]
    named = named_in((document.text for document in training()), sorted({each.item.fact for each in unknown}))
    return [each for each in unknown if each.item.fact not in named]


def _write(scratch: Path, documents: Iterable[Document], progress: Progress) -> SourceCounts:
    sources = (reading.SOURCE, shuffled.SOURCE, questions.SOURCE, kinds.SOURCE)
    counts = SourceCounts(listed={name: ListedSource(path=f"study of {DOMAIN}") for name in sources})
    with DocumentWriter(documents_path(scratch, DOMAIN, "train")) as writer:
        items: Iterable[Item] = _counted(documents, progress)
        for _, document in divide(items, Always("train"), DigestSet(), counts):
            writer.write(document)
    counts.listed = {name: each for name, each in counts.listed.items() if each.documents_in}
    return counts


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
