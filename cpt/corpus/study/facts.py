"""Decide which facts are trained on: join what is one fact, divide facts by a hash, find terms in texts.

A fact that is asked in training in other words, under another name or by another miner is no probe of what
documents teach. So keys are joined where they mean the same: a term and its plural, its short form in
brackets ("stroke volume (SV)"), its other names ("also, receptor"), and terms of equal definitions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from cpt.corpus.study.items import Item, fact_key, is_trained

if TYPE_CHECKING:
    from cpt.corpus.study.mining import Mined

ASKING = frozenset({"existing", "question_title", "write"})
"""Miners whose facts are questions and not terms."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_OTHER_NAME = re.compile(r"^\((?:also|or)(?: called| known as)?,? ([^()]{2,60})\)")
_LEAD = re.compile(r"^(?:also|or|plural|singular|abbreviated)(?: called| known as| as)?\s*[,:=]?\s*")
_SHORTEST = 2


@lru_cache(maxsize=1 << 16)
def singular(word: str) -> str:
    """Return a word without the ending of an English plural."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]


def words_of(text: str) -> list[str]:
    """Return the words of a text without case and plurals."""
    return [singular(word) for word in _WORD.findall(text.casefold())]


class Terms:
    """Terms of one or more words that are found in texts, whatever their case and number."""

    def __init__(self, terms: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for term in terms:
            if words := tuple(words_of(term)):
                self._by_first.setdefault(words[0], []).append((words, term))

    def of(self, text: str) -> Iterator[str]:
        """Yield the terms that a text names."""
        words = words_of(text)
        for at, word in enumerate(words):
            for term, name in self._by_first.get(word, ()):
                if tuple(words[at : at + len(term)]) == term:
                    yield name


class Facts:
    """The facts of a domain by their keys, joined where they are the same, and divided into two sides."""

    def __init__(self, share: float, seed: int) -> None:
        """Take the share of the facts whose questions are trained on."""
        self._share, self._seed = share, seed
        self._parents: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        self._terms: set[str] = set()
        self._index: Terms | None = None
        self.known: set[str] = set()
        """Keys of facts that do not come from held-out documents alone."""

    def __len__(self) -> int:
        """Return the number of these facts, joined."""
        return len({self.of(key) for key in self.known})

    def add(self, mined: Mined, *, held_out: bool = False) -> None:
        """Take note of an item's fact and of its other names; open items have none."""
        if not mined.closed:
            return
        item = mined.item
        self._find(item.fact)
        if not held_out:
            self.known.add(item.fact)
        if mined.miner in ASKING:
            return
        self._terms.add(item.fact)
        for name in _names(item):
            self._terms.add(name)
            self._join(item.fact, name)
        if item.task.endswith(".define"):
            same = self._definitions.setdefault(" ".join(words_of(item.answer)), item.fact)
            self._join(item.fact, same)
        self._index = None

    def of(self, fact: str) -> str:
        """Return the key that stands for all names of a fact."""
        return self._find(fact)

    def is_trained(self, fact: str) -> bool:
        """Return True if questions on a fact are trained on."""
        return is_trained(self._find(fact), self._share, self._seed)

    def may_train(self, mined: Mined) -> bool:
        """Return True unless an item would train on a fact that is only probed.

        An open item does if it asks for the name of such a fact (a heading); a question also if it names one.
        """
        fact = mined.item.fact
        if not mined.closed:
            return fact not in self._terms or self.is_trained(fact)
        if not self.is_trained(fact):
            return False
        if mined.miner not in ASKING:
            return True
        text = " ".join([*mined.item.fields.values(), mined.item.answer])
        return all(self.is_trained(term) for term in self._named(text))

    def probed(self) -> Collection[str]:
        """Return the terms of the facts that are only probed."""
        return {term for term in self._terms if not self.is_trained(term)}

    def _named(self, text: str) -> Iterator[str]:
        if self._index is None:
            self._index = Terms(self._terms)
        return self._index.of(text)

    def _find(self, key: str) -> str:
        """Return the first name of a fact; every name of it leads there."""
        self._parents.setdefault(key, key)
        root = key
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[key] != root:
            self._parents[key], key = root, self._parents[key]
        return root

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self._find(one), self._find(other)))
        self._parents[second] = first  # the same whatever the order


def _names(item: Item) -> Iterator[str]:
    """Yield further keys of an item's fact: its singular, short forms in brackets, other names."""
    term = item.answer if item.reverse else item.fields.get("term", item.fields.get("name", ""))
    yield _singular_key(item.fact)
    found = _BRACKETS.findall(term)
    if other := _OTHER_NAME.match(item.answer):
        found.append(other[1])
    if item.task.endswith(".synonym"):
        found.append(item.answer)
    for text in found:
        for part in re.split(r"[,;]| or ", text):
            name = fact_key(_LEAD.sub("", part.strip()))
            if len(name) >= _SHORTEST and any(map(str.isalpha, name)):
                yield _singular_key(name)


def _singular_key(key: str) -> str:
    *first, last = key.split(" ")
    return " ".join([*first, singular(last)])


def named_in(texts: Iterable[str], terms: Sequence[str]) -> set[str]:
    """Return the terms that occur in any of the texts."""
    index, left = Terms(terms), set(terms)
    for text in texts:
        left.difference_update(index.of(text))
    return set(terms) - left
