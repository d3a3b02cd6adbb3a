"""Write study texts about documents with a model: in batches, up to a bound, with all answers kept."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Any

from cpt.corpus.documents import Document
from cpt.corpus.study.facts import Terms
from cpt.corpus.study.items import chance
from cpt.corpus.study.language import Language
from cpt.corpus.study.mining import Documents, Mined
from cpt.corpus.study.write.filters import Filters
from cpt.corpus.study.write.kinds import MAKERS, Desk, Steps
from cpt.corpus.study.write.prompts import Passage, Prompts, passages_of
from cpt.corpus.study.write.requests import Answer, Asker
from cpt.corpus.study.write.settings import WriteSettings
from cpt.corpus.study.write.yields import Yields
from cpt.errors import DataError
from cpt.progress import Progress

FIRST = 16
"""Number of passages of the first batch, after which the yield is shown and judged."""

_LARGEST = 256
"""Most passages of a batch. All of a batch is used, so its size may depend on nothing that varies."""

_TOGETHER = 16
"""Number of documents whose passages come in turn, so that the first batch is not of one book."""

_MOST_TEXT = 1 << 26
"""Most characters of documents in memory at once."""


@dataclass(frozen=True)
class Written:
    """Texts and questions of a model.

    Attributes:
        documents: Texts for the part `reading`.
        items: Closed questions.
        facts: Counts by kind and reason, tokens, and diversity.
    """

    documents: list[Document]
    items: list[Mined]
    facts: dict[str, Any]


def write(
    documents: Documents,
    settings: WriteSettings,
    language: Language,
    asker: Asker,
    seed: int,
    progress: Progress,
    probed: Collection[str] = (),
) -> Written:
    """Write about documents until the bound of tokens is reached or all passages are done.

    Args:
        documents: Function that reads the documents anew.
        probed: Terms of facts that are only probed. A text that asked about them would train on the probe.

    Raises:
        DataError: No document has a passage to write about.
        StageFailed: The model cannot be reached, or too few of its results can be used.
    """
    desk = Desk(settings, Prompts(language, settings, seed), Filters(language), Yields())
    if asker.kept:
        progress.message(f"study.write: {asker.kept:,} answers are kept from before")
    amount, size = _Amount(), FIRST
    in_order = in_random_order(documents, seed, settings.documents)
    waiting = _passages(in_order, settings.passage, language, Terms(probed))
    while amount.written < settings.tokens and (batch := list(islice(waiting, size))):
        for passage in batch:
            desk.yields.documents.add(passage.text)
        _write_batch(batch, desk, asker, amount, progress)
        if amount.passages == 0:
            progress.message(f"study.write: of the first {len(batch)} passages: {desk.yields.describe()}")
        amount.passages += len(batch)
        amount.not_free += sum(not passage.free for passage in batch)
        desk.yields.require(settings.least_yield)
        each = amount.written / amount.passages
        size = max(1, min(_LARGEST, int((settings.tokens - amount.written) / max(each, 1.0))))
    if not amount.passages:
        raise DataError(
            "study.write: no document has a passage to write about",
            hint="They are all short, or conversations. Leave `write` out.",
        )
    desk.yields.require(settings.least_yield, enough=1)
    facts = {"model": settings.label, **amount.facts(settings), "kinds": desk.yields.facts()}
    facts["compression_of_passages"] = desk.yields.documents.ratio
    kept = f", {amount.not_free:,} of them with facts that are only probed" if amount.not_free else ""
    progress.message(
        f"study.write: {amount.written:,} tokens about {amount.passages:,} passages{kept}: "
        f"{desk.yields.describe()}"
    )
    return Written(desk.documents, desk.items, facts)


@dataclass
class _Amount:
    """Counts of requests and tokens so far, kept answers included.

    Attributes:
        not_free: Number of passages with a fact that is only probed.
    """

    passages: int = 0
    not_free: int = 0
    requests: int = 0
    read: int = 0
    written: int = 0

    def add(self, answers: Sequence[Answer]) -> None:
        """Count answers."""
        self.requests += len(answers)
        self.read += sum(answer.read for answer in answers)
        self.written += sum(answer.written for answer in answers)

    def facts(self, settings: WriteSettings) -> dict[str, Any]:
        """Return the counts as plain data, with the price where the user gave one."""
        found: dict[str, Any] = {
            "passages": self.passages,
            "passages_with_probed_facts": self.not_free,
            "requests": self.requests,
            "tokens": {"read": self.read, "written": self.written},
        }
        if settings.price_per_million is not None:
            read, written = settings.price_per_million
            found["price"] = round((self.read * read + self.written * written) / 1e6, 4)
        return found


def _write_batch(
    batch: Sequence[Passage], desk: Desk, asker: Asker, amount: _Amount, progress: Progress
) -> None:
    """Write all kinds about the passages of a batch, step by step, with the requests of a step together."""
    made, bound = amount.written, desk.settings.tokens

    def heard(answer: Answer) -> None:
        nonlocal made
        made += answer.written
        progress.update(min(made, bound), bound, "token")

    running: list[tuple[Steps, Sequence[Answer] | None]] = [
        (MAKERS[kind](passage, desk), None) for passage in batch for kind in desk.settings.kinds
    ]
    while running:
        asking = []
        for steps, answers in running:
            try:
                asking.append((steps, next(steps) if answers is None else steps.send(answers)))
            except StopIteration:
                continue
        found = iter(asker.ask([request for _, requests in asking for request in requests], heard))
        running = [(steps, list(islice(found, len(requests)))) for steps, requests in asking]
        for _, answers in running:
            amount.add(answers or ())


def _passages(
    documents: Iterable[Document], size: int, language: Language, probed: Terms
) -> Iterator[Passage]:
    """Yield the passages of documents, a few documents in turn; no text twice."""
    seen: set[str] = set()
    waiting = iter(documents)
    while together := list(islice(waiting, _TOGETHER)):
        for row in zip_longest(*(passages_of(document, size, language) for document in together)):
            for passage in row:
                if passage is not None and passage.digest not in seen:
                    seen.add(passage.digest)
                    yield replace(passage, free=not any(probed.of(passage.text)))


def in_random_order(documents: Documents, seed: int, most: int | None) -> Iterator[Document]:
    """Yield documents in an order of the seed, without conversations, with bounded memory.

    Documents are read once for their order, and again for each 64 million characters that are needed.
    """
    places, numbers, lengths = array("d"), array("q"), array("q")
    for number, document in enumerate(documents()):
        if not document.marked:
            places.append(chance("write", seed, document.id).random())
            numbers.append(number)
            lengths.append(len(document.text))
    order = sorted(range(len(places)), key=places.__getitem__)[:most]
    at = 0
    while at < len(order):
        begin, size = at, 0
        while at < len(order) and (at == begin or size + lengths[order[at]] <= _MOST_TEXT):
            size += lengths[order[at]]
            at += 1
        group = [numbers[each] for each in order[begin:at]]
        wanted = set(group)
        found = {number: document for number, document in enumerate(documents()) if number in wanted}
        yield from (found[number] for number in group)
