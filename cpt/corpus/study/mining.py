"""Run miners over documents, and balance the labels of what they find."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cpt.corpus.documents import Document
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


def mine(
    documents: Documents, names: Sequence[str], language: Language, seed: int
) -> Iterator[tuple[Document, list[Mined]]]:
    """Yield every document with its items, those of balanced labels cut to the rarest label's number.

    Conversations are left out. Documents are read three times.
    """
    miners = [miner_of(name, language) for name in names]
    for miner in miners:
        miner.learn(_plain(documents()))
    dropped = _surplus(
        (mined for document in _plain(documents()) for mined in _items(document, miners)), seed
    )
    for document in _plain(documents()):
        yield document, [each for each in _items(document, miners) if each.key not in dropped]


def _plain(documents: Iterable[Document]) -> Iterator[Document]:
    return (document for document in documents if not document.marked)


def _items(document: Document, miners: Sequence[Miner]) -> Iterator[Mined]:
    for miner in miners:
        for item in miner.mine(document):
            yield Mined(item, document.id, miner.name, miner.closed)


def _surplus(mined: Iterable[Mined], seed: int) -> set[str]:
    """Return the keys of labelled items beyond the number of their task's rarest label.

    Unbalanced labels teach the habit of the frequent one: of PubMedQA's own questions 93% are "yes".
    """
    found: dict[str, dict[str, list[str]]] = {}
    for each in mined:
        if each.item.label:
            found.setdefault(each.item.task, {}).setdefault(each.item.label, []).append(each.key)
    dropped: set[str] = set()
    for task, labels in found.items():
        kept = min(map(len, labels.values())) if len(labels) > 1 else 0
        for keys in labels.values():
            ordered = sorted(keys, key=lambda key: (chance("label", seed, task, key).random(), key))
            dropped.update(ordered[kept:])
    return dropped


def count(mined: Iterable[Mined]) -> dict[str, dict[str, int]]:
    """Count items by miner: in all, and by task and label."""
    counts: dict[str, Counter[str]] = {}
    for each in mined:
        of_miner = counts.setdefault(each.miner, Counter())
        task = each.item.task.partition(".")[2]
        of_miner[f"{task}: {each.item.label}" if each.item.label else task] += 1
    return {miner: dict(found) for miner, found in counts.items()}
