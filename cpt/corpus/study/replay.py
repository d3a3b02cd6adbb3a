"""Replace replay documents by study documents of them: general text in instruction form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cpt.atomic import atomic_file
from cpt.corpus.build import check_sums
from cpt.corpus.documents import Document, DocumentWriter, documents_path, read_documents
from cpt.corpus.index import ListedSource, SourceCounts
from cpt.corpus.study import questions, reading
from cpt.corpus.study.benchmark_questions import Unwanted
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.language import load_language
from cpt.corpus.study.mining import Mined, Mining
from cpt.corpus.study.settings import MiningSettings
from cpt.errors import DataError

STUDIED = "studied"
"""Reason for which documents are removed that study documents are made of."""


def study_instead(
    corpus: Path,
    name: str,
    counts: SourceCounts,
    settings: MiningSettings,
    seed: int,
    unwanted: Unwanted = lambda _: False,
) -> None:
    """Write study documents of a source's training documents in their place. All facts are asked.

    Args:
        name: Source, "replay.reading".
        counts: Counts of the source; changed here.
        unwanted: Function that returns True for items that are left out.

    Raises:
        DataError: Nothing was found.
    """
    language, facts = load_language(settings.language), Facts(1.0, seed)

    def documents() -> Iterator[Document]:
        return read_documents(corpus, name, "train")

    mining = Mining(documents, settings.miners, language, facts, seed, unwanted=unwanted)

    def made() -> Iterator[Document]:
        closed: list[Mined] = []
        for document in documents():
            mined = mining.items(document)
            closed.extend(each for each in mined if each.closed)
            yield from reading.reading_documents(
                document, mined, facts, language, settings, seed, mining.balance
            )
        yield from questions.question_documents(questions.ask(closed, facts, language, settings, seed), seed)

    for document in documents():
        counts.remove(STUDIED, document.text)
    del counts.splits["train"]
    counts.listed |= {
        key: ListedSource(path=f"study of {name}") for key in (reading.SOURCE, questions.SOURCE)
    }
    path = documents_path(corpus, name, "train")
    with atomic_file(path, durable=False) as scratch, DocumentWriter(scratch) as writer:
        for document in made():
            plain = replace(document, part="")  # a part of replay is one text
            counts.enter(plain)
            counts.keep("train", plain)
            writer.write(plain)
    if "train" not in counts.splits:
        raise DataError(
            f"{name}: no question or task was found by {', '.join(settings.miners)}",
            hint="See what miners look for by `cpt corpus study FILE --inspect`, or leave `study` out.",
        )
    counts.listed = {key: each for key, each in counts.listed.items() if each.documents_in}
    check_sums(counts)
