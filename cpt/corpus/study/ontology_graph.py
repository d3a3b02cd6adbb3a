"""Hold the terms of an ontology and the relations between them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from cpt.corpus.study.items import fact_key


@dataclass(frozen=True, slots=True)
class Term:
    """A term of an ontology that is not obsolete.

    Attributes:
        synonyms: Exact synonyms: names of the same thing.
        related: Other synonyms: names of broader, narrower or similar things.
        parents: Ids of the terms that it is a kind of.
    """

    id: str
    name: str
    definition: str = ""
    synonyms: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


class Graph:
    """Terms by id, and the relations between them. Parents that the file lacks are left out.

    Attributes:
        parent: Parents that are the only ones of a term, and no roots, by the term's id.
        usable: Ids of the terms with a name of their own.
        above: Ids of all terms above a term, by its id: itself among them if it is in a circle.
        depth: Fewest steps to a term without parents; terms below circles alone have none.
        holders: Number of terms that have a name, synonym or definition, by its key.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self.terms: dict[str, Term] = {}
        for term in terms:
            self.terms.setdefault(term.id, term)
        texts = {
            id: set(map(fact_key, (term.name, *term.synonyms, *term.related, term.definition))) - {""}
            for id, term in self.terms.items()
        }
        self.holders = Counter(text for each in texts.values() for text in each)
        self._shared = {id: {text for text in each if self.holders[text] > 1} for id, each in texts.items()}
        titles = Counter(fact_key(term.name) for term in self.terms.values())
        self.usable = {
            id for id, term in self.terms.items() if term.name and titles[fact_key(term.name)] == 1
        }
        self._parents = {
            id: [parent for parent in term.parents if parent in self.terms and parent != id]
            for id, term in self.terms.items()
        }
        self._children: dict[str, list[str]] = {id: [] for id in self.terms}
        for id in sorted(self._parents):
            for parent in self._parents[id]:
                self._children[parent].append(id)
        self.depth = self._depths()
        self.above = {id: self._ancestors(id) for id in self.terms}
        self.parent = self._only_parents()

    def _depths(self) -> dict[str, int]:
        depths = {id: 0 for id, parents in self._parents.items() if not parents}
        waiting = deque(depths)
        while waiting:
            id = waiting.popleft()
            for child in self._children[id]:
                if child not in depths:
                    depths[child] = depths[id] + 1
                    waiting.append(child)
        return depths

    def _ancestors(self, id: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self._parents[id])
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting += self._parents[parent]
        return found

    def related(self, id: str, other: str) -> bool:
        """Return True if one term is the other, or above it."""
        return id == other or id in self.above[other] or other in self.above[id]

    def alike(self, id: str, other: str) -> bool:
        """Return True for terms that share a name, a synonym or a definition."""
        return not self._shared[id].isdisjoint(self._shared[other])

    def _only_parents(self) -> dict[str, str]:
        """Return the parents that can be asked for: the only ones of their terms, and no roots."""
        return {
            id: parent
            for id, term in self.terms.items()
            for parent in self._parents[id]
            if len(term.parents) == 1
            and self.depth.get(parent)
            and parent in self.usable
            and id not in self.above[id]
        }

    def siblings(self, id: str) -> list[str]:
        """Return the ids of the terms that have a parent with a term in common."""
        return self._below(self._parents[id])

    def cousins(self, id: str) -> list[str]:
        """Return the ids of the children of the siblings of a term's parents."""
        parents = self._parents[id]
        return self._below(
            uncle for parent in parents for uncle in self.siblings(parent) if uncle not in parents
        )

    def _below(self, ids: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(child for id in ids for child in self._children[id]))
