"""Decide which facts are trained on: join what is one fact, divide facts by a hash, find terms in texts.

A fact that is asked in training in other words, under another name or by another miner is no probe of what
documents teach. So keys are joined where they mean the same: a term and its plural, its short form in
brackets ("stroke volume (SV)", but no remark as in "base (chemistry)", "acid (chemistry)"), its other names
("also, receptor"), and terms of equal definitions.
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

NAMING = frozenset({"keywords", "title"})
"""Open miners whose tasks turn on names, which lead to a text or are found for it. Others quote documents."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_OTHER_NAME = re.compile(r"^\((?:also|or)(?: called| known as)?,? ([^()]{2,60})\)")
_LEAD = re.compile(r"^(?:also|or|plural|singular|abbreviated)(?: called| known as| as)?\s*[,:=]?\s*")
_SHORTEST = 2

_CONTENT = 4
"""Fewest letters of a word of a definition that is looked for."""

_TO_JUDGE = 3
"""Fewest such words of a definition: one of less is too short to be told from a chance."""

_STATED = 0.6
"""Share of a definition's words with which a text that names its term states it."""


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


def content_words(definition: Iterable[str], term: Iterable[str]) -> frozenset[str]:
    """Return the distinct words of a definition of four letters or more, without those of its term.

    Args:
        definition: Words of the definition, as `words_of` returns them.
        term: Words of its term.
    """
    return frozenset(word for word in definition if len(word) >= _CONTENT).difference(term)


def states(text: Collection[str], content: frozenset[str]) -> bool:
    """Return True if the words of a text hold at least 60% of the content words of a definition."""
    return len(content) >= _TO_JUDGE and len(content.intersection(text)) >= _STATED * len(content)


class Facts:
    """The facts of a domain by their keys, joined where they are the same, and divided into two sides."""

    def __init__(self, share: float, seed: int) -> None:
        """Take the share of the facts whose questions are trained on."""
        self._share, self._seed = share, seed
        self._parents: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        self._terms: set[str] = set()
        self._bracketed: dict[str, set[str]] = {}
        self._index: Terms | None = None
        self._content: dict[str, list[frozenset[str]]] = {}
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
        for name in _in_brackets(item):
            self._bracketed.setdefault(name, set()).add(item.fact)
        if item.task.endswith(".define"):
            same = self._definitions.setdefault(" ".join(words_of(item.answer)), item.fact)
            self._join(item.fact, same)
        self._index = None

    def of(self, fact: str) -> str:
        """Return the key that stands for all names of a fact."""
        self._join_brackets()
        return self._find(fact)

    def is_trained(self, fact: str) -> bool:
        """Return True if questions on a fact are trained on."""
        return is_trained(self.of(fact), self._share, self._seed)

    def may_train(self, mined: Mined) -> bool:
        """Return True unless an item would train on a fact that is only probed.

        An open item does if it leads from or to the name of such a fact (a heading, rare words of a
        sentence); a question of the text also if it names one; another closed item if it states one. That
        a definition of one term uses others is usual: in texts on anatomy two of three name a probed one.
        """
        item = mined.item
        if not mined.closed:
            names = min([*item.fields.values(), item.answer], key=len)
            return mined.miner not in NAMING or all(map(self.is_trained, self._named(names)))
        if not self.is_trained(item.fact):
            return False
        others = self._named if mined.miner in ASKING else self.stated
        return all(map(self.is_trained, others(_text(item))))

    def stated(self, text: str) -> set[str]:
        """Return the facts that a text states: it names their term and has the words of a definition.

        Returns:
            Keys that stand for all names of these facts (`of`).
        """
        named = set(map(self._find, self._named(text)))
        words = set(words_of(text)) if named else set()
        return {fact for fact in named if any(states(words, each) for each in self._content.get(fact, ()))}

    def may_probe(self, mined: Mined) -> bool:
        """Return True if no question on what an item asks is trained on, under its own fact or another."""
        if self.is_trained(mined.item.fact):
            return False
        return mined.miner not in ASKING or not any(map(self.is_trained, self._named(_text(mined.item))))

    def probed(self) -> Collection[str]:
        """Return the terms of the facts that are only probed."""
        self._join_brackets()
        return {term for term in self._terms if not self.is_trained(term)}

    def _join_brackets(self) -> None:
        """Join terms with what stands in brackets behind them, if it stands behind no other."""
        while self._bracketed:
            name, facts = self._bracketed.popitem()
            if len({self._find(fact) for fact in facts}) == 1:
                self._terms.add(name)
                self._join(min(facts), name)
                self._index = None

    def _named(self, text: str) -> Iterator[str]:
        self._join_brackets()
        if self._index is None:
            self._index = Terms(self._terms)
            self._content = {}
            for definition, fact in self._definitions.items():
                content = content_words(definition.split(), words_of(fact))
                self._content.setdefault(self._find(fact), []).append(content)
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


def _text(item: Item) -> str:
    return " ".join([*item.fields.values(), item.answer])


def _names(item: Item) -> Iterator[str]:
    """Yield further keys of an item's fact: its singular, and names that the text calls so."""
    yield _singular_key(item.fact)
    found = [text for text in _brackets(item) if _LEAD.match(text)]
    if other := _OTHER_NAME.match(item.answer):
        found.append(other[1])
    if item.task.endswith(".synonym"):
        found.append(item.answer)
    yield from _keys(found)


def _in_brackets(item: Item) -> Iterator[str]:
    """Yield keys of what stands in brackets behind a term: short forms and other names, but remarks too."""
    return _keys(text for text in _brackets(item) if not _LEAD.match(text))


def _brackets(item: Item) -> list[str]:
    term = item.answer if item.reverse else item.fields.get("term", item.fields.get("name", ""))
    return _BRACKETS.findall(term)


def _keys(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
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
