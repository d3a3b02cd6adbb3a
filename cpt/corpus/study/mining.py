"""Run miners over documents, and balance the labels of what they find."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cpt.corpus.documents import Document
from cpt.corpus.study.benchmark_questions import Unwanted
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import Item, Miner, chance
from cpt.corpus.study.language import Language

Documents = Callable[[], Iterable[Document]]


@dataclass(frozen=True, slots=True)
class Mined:
    """An item with the document that it was found in, and its miner.

    Attributes:
        document: Id of the document; of an ontology's items that of the term.
    """

    item: Item
    document: str
    miner: str
    closed: bool

    @property
    def key(self) -> str:
        """Return a text that tells the item from all others."""
        return f"{self.document}\x1f{self.item.task}\x1f{self.item.span}\x1f{self.item.answer}"


def miner_of(name: str, language: Language) -> Miner:
    """Return the miner of a name: the one class of its module."""
    module = importlib.import_module(f"cpt.corpus.study.miners.{name}")
    (kind,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Miner) and each.__module__ == module.__name__
    )
    return kind(language)


class Mining:
    """The miners of a domain's documents, and the facts that they find in them."""

    def __init__(
        self,
        documents: Documents,
        names: Sequence[str],
        language: Language,
        facts: Facts,
        seed: int,
        held_out: Documents = lambda: (),
        unwanted: Unwanted = lambda _: False,
    ) -> None:
        """Read the documents twice: miners learn of all of them, then facts and labels are counted.

        Args:
            documents: Training documents. Conversations are left out.
            facts: Receiver of the facts.
            held_out: Documents whose facts are joined with those of the training documents.
            unwanted: Function that returns True for items of training documents that are left out.
        """
        self._miners = [miner_of(name, language) for name in names]
        for miner in self._miners:
            miner.learn(_plain(documents()))
        labelled: list[Mined] = []
        self._left_out: set[str] = set()
        unwanted_keys: set[str] = set()
        for document in _plain(documents()):
            for mined in self.items(document):
                facts.add(mined)
                if unwanted(mined):
                    unwanted_keys.add(mined.key)
                elif mined.item.label:
                    labelled.append(mined)
        for document in _plain(held_out()):
            for mined in self.items(document):
                facts.add(mined, held_out=True)
        labels: dict[tuple[str, bool], dict[str, list[str]]] = {}
        for mined in labelled:
            by_label = labels.setdefault((mined.item.task, facts.may_train(mined)), {})
            by_label.setdefault(mined.item.label, []).append(mined.key)
        self._left_out = surplus(labels, seed) | unwanted_keys
        self.balance = LabelBalance(
            {task: set(found) for (task, trained), found in labels.items() if trained}
        )

    def items(self, document: Document) -> list[Mined]:
        """Return the items of a document, without unwanted ones and the surplus of frequent labels."""
        if document.marked:
            return []
        every = (
            Mined(item, document.id, miner.name, miner.closed)
            for miner in self._miners
            for item in miner.mine(document)
        )
        return [mined for mined in every if mined.key not in self._left_out]


def _plain(documents: Iterable[Document]) -> Iterator[Document]:
    return (document for document in documents if not document.marked)


class LabelBalance:
    """Numbers of written items by task and label: no label is written twice more than another of its task."""

    def __init__(self, labels: Mapping[str, Collection[str]]) -> None:
        """Take the labels of every task."""
        self._written = {task: dict.fromkeys(found, 0) for task, found in labels.items()}

    def allows(self, item: Item) -> bool:
        """Return True for an item without a label, and for one whose label is among the rarest so far."""
        written = self._written.get(item.task)
        return not item.label or written is None or written[item.label] == min(written.values())

    def add(self, item: Item) -> None:
        """Take note of an item that is written."""
        if item.label and item.task in self._written:
            self._written[item.task][item.label] += 1


def surplus(labels: Mapping[tuple[str, bool], Mapping[str, Sequence[str]]], seed: int) -> set[str]:
    """Return the keys of labelled items beyond the number of the rarest label of their task and side.

    Unbalanced labels teach the habit of the frequent one: of PubMedQA's own questions 93% are "yes".

    Args:
        labels: Keys of items by task, side (trained on or only probed) and label.
    """
    dropped: set[str] = set()
    for (task, _), by_label in labels.items():
        kept = min(map(len, by_label.values())) if len(by_label) > 1 else 0
        for keys in by_label.values():
            ordered = sorted(keys, key=lambda key: (chance("label", seed, task, key).random(), key))
            dropped.update(ordered[kept:])
    return dropped


class Counts:
    """Numbers of items by miner, task and label."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, mined: Mined) -> None:
        """Count an item."""
        task = mined.item.task.partition(".")[2]
        name = f"{task}: {mined.item.label}" if mined.item.label else task
        self._counts.setdefault(mined.miner, Counter())[name] += 1

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return the numbers as plain data."""
        return {miner: dict(found) for miner, found in self._counts.items()}
