"""Mine ontologies in OBO format: definitions, synonyms and kinds of terms, asked in both directions."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from cpt.corpus.readers.obo import term_frames
from cpt.corpus.study.items import Item, chance, fact_key
from cpt.corpus.study.language import Language

_LONGEST = 400
"""Most characters of a definition that is asked for: of the longest twentieth, most are paragraphs."""

_SHORTEST = 15

_WRONG = 3
"""Wrong options of a choice."""

_TRIES = 12
"""Terms of a pool that are tried as wrong answers: on the upper levels of an ontology many are related."""


_WORD = re.compile(r"[^\W_]+")
_SPELLINGS = str.maketrans("z", "s", "aeiouy")


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


def read_ontology(path: Path) -> list[Term]:
    """Read the terms of an OBO file, without the obsolete ones.

    Raises:
        SourceError: The file is not OBO, or not UTF-8.
    """
    return [term for frame in term_frames(path) if (term := _term(frame)) is not None]


def _term(frame: Any) -> Term | None:
    """Return the term of a frame, from its clauses by fastobo's class names."""
    name, definition = "", ""
    synonyms: dict[bool, list[str]] = {True: [], False: []}
    parents: list[str] = []
    for clause in frame:
        match type(clause).__name__:
            case "NameClause":
                name = _line(clause.name)
            case "DefClause":
                definition = _line(str(clause.definition))
            case "SynonymClause":
                synonyms[clause.synonym.scope == "EXACT"].append(_line(clause.synonym.desc))
            case "IsAClause":
                parents.append(str(clause.term))
            case "IsObsoleteClause" if clause.obsolete:
                return None
    exact, related = tuple(dict.fromkeys(synonyms[True])), tuple(dict.fromkeys(synonyms[False]))
    return Term(str(frame.id), name, definition, exact, related, tuple(dict.fromkeys(parents)))


def _line(text: str) -> str:
    return " ".join(text.split())


class Ontology:
    """Terms of an ontology. It takes terms instead of documents, so it is no `Miner`."""

    name: ClassVar[str] = "ontology"
    closed: ClassVar[bool] = True

    def __init__(self, language: Language, seed: int = 0) -> None:
        self.language = language
        self.seed = seed

    def items(self, terms: Iterable[Term]) -> Iterator[Item]:
        """Yield the items of all terms, in the terms' order. All items of a term are one fact."""
        for _, items in self.by_term(terms):
            yield from items

    def by_term(self, terms: Iterable[Term]) -> Iterator[tuple[Term, list[Item]]]:
        """Yield every term with its items.

        Unnamed terms, and terms whose name another one has too, are not asked about.
        """
        terms = list(terms)
        graph = _Graph(terms)
        kinds = _kinds(graph, self.seed)
        levels = _levels(graph)
        for term in terms:
            if graph.terms.get(term.id) is not term or term.id not in graph.usable:
                continue
            rolled = chance(self.name, self.seed, term.id)
            found = [*_definitions(term, graph, rolled), *_synonyms(term, graph, rolled)]
            found += _hierarchy(term, graph, levels, rolled)
            answers = self.language.of(self.name, "answers")
            for label, kind in zip(("yes", "no"), kinds.get(term.id, ()), strict=False):
                fields = {"name": term.name, "kind": graph.terms[kind].name}
                found.append(Item("ontology.is_a", fact_key(term.name), answers[label], fields, label=label))
            yield term, found


def _definitions(term: Term, graph: _Graph, rolled: Random) -> Iterator[Item]:
    """Yield the items of a definition: both directions, and a choice among siblings."""
    if not _SHORTEST <= len(term.definition) <= _LONGEST:
        return
    fact = fact_key(term.name)
    fields = {"name": term.name, "definition": term.definition}
    if fact_key(term.definition) != fact:
        yield Item("ontology.define", fact, term.definition, fields)
    defined = f" {_bare(term.definition)} "
    given_away = any(f" {_bare(name)} " in defined for name in (term.name, *term.synonyms))
    if given_away or graph.holders[fact_key(term.definition)] > 1:
        return
    yield Item("ontology.name", fact, term.name, fields, reverse=True)
    near = (id for pool in (graph.siblings, graph.cousins) for id in _drawn(pool(term.id), rolled))
    wrong = _wrong(term.id, (term.id,), near, graph)
    if wrong:
        yield Item("ontology.choice", fact, term.name, fields, (term.name, *wrong), reverse=True)


def _synonyms(term: Term, graph: _Graph, rolled: Random) -> Iterator[Item]:
    """Yield a question for one of the synonyms, and for each synonym one for the name.

    Synonyms that differ from the name in spelling only, or are other terms' names too, are left out.
    """
    fact = fact_key(term.name)
    seen = {_letters(term.name)}
    synonyms: list[str] = []
    for synonym in term.synonyms:
        letters = _letters(synonym)
        if letters not in seen and "_" not in synonym and graph.holders[fact_key(synonym)] == 1:
            seen.add(letters)
            synonyms.append(synonym)
    if synonyms:
        synonym = rolled.choice(synonyms)
        yield Item("ontology.synonym", fact, synonym, {"name": term.name, "synonym": synonym})
    for synonym in synonyms:
        fields = {"name": term.name, "synonym": synonym}
        yield Item("ontology.of_synonym", fact, term.name, fields, reverse=True)


def _hierarchy(
    term: Term, graph: _Graph, levels: Mapping[int, Sequence[str]], rolled: Random
) -> Iterator[Item]:
    """Yield a question for the only parent of a term, and a choice of the term among terms of other parents.

    Wrong answers come from the whole level. Of near ones some are kinds of the parent that the file does not
    list as such (colpocephaly beside ventriculomegaly).
    """
    parent = graph.parent.get(term.id)
    if parent is None:
        return
    fact = fact_key(term.name)
    fields = {"name": term.name, "parent": graph.terms[parent].name}
    level = levels.get(graph.depth[term.id], ())
    wrong = _wrong(parent, (term.id,), (graph.parent[id] for id in _drawn(level, rolled)), graph)
    options = (fields["parent"], *wrong) if wrong else ()
    yield Item("ontology.parent", fact, fields["parent"], fields, options)
    wrong = _wrong(term.id, (term.id, parent), _drawn(level, rolled), graph)
    if wrong:
        yield Item("ontology.child_of", fact, term.name, fields, (term.name, *wrong), reverse=True)


def _levels(graph: _Graph) -> dict[int, list[str]]:
    """Return the ids of the terms with one parent by their depth, in an order independent of the file's."""
    levels: dict[int, list[str]] = {}
    for id in sorted(graph.depth):
        if id in graph.parent:
            levels.setdefault(graph.depth[id], []).append(id)
    return levels


def _drawn(pool: Sequence[str], rolled: Random) -> Iterator[str]:
    """Yield ids of a pool in a random order: all of a small one, some of a large one."""
    if len(pool) <= _TRIES:
        yield from rolled.sample(pool, len(pool))
    else:
        for _ in range(_TRIES):
            yield rolled.choice(pool)


def _wrong(right: str, to: Sequence[str], drawn: Iterable[str], graph: _Graph) -> tuple[str, ...]:
    """Return the names of three terms that are wrong answers, or none if there are fewer.

    Args:
        right: Id of the right answer. Wrong ones share no name and no definition with it.
        to: Ids of the terms whose ancestors and descendants are no wrong answers.
        drawn: Ids of possible wrong answers.
    """
    chosen: list[str] = []
    for id in drawn:
        if id in chosen or id not in graph.usable or graph.alike(id, right):
            continue
        if not any(graph.related(id, other) for other in to):
            chosen.append(id)
        if len(chosen) == _WRONG:
            return tuple(graph.terms[id].name for id in chosen)
    return ()


def _kinds(graph: _Graph, seed: int) -> dict[str, tuple[str, str]]:
    """Return an ancestor and an unrelated term of the ancestor's depth, by the id of a term.

    Two terms exchange their ancestors. So every term and every ancestor is asked for as often with the answer
    no as with yes, and neither name alone says anything about the answer.
    """
    chosen: dict[str, str] = {}
    for id in graph.terms:
        above = sorted(each for each in graph.above[id] if graph.depth.get(each) and each in graph.usable)
        if above and id not in graph.above[id] and id in graph.usable:
            chosen[id] = chance("kind", seed, id).choice(above)
    pairs: dict[str, tuple[str, str]] = {}
    waiting: dict[int, list[str]] = {}
    ids = sorted(chosen)
    chance("pairs", seed).shuffle(ids)
    for id in ids:
        alone = waiting.setdefault(graph.depth[chosen[id]], [])
        for other in alone[-_TRIES:]:
            kind, no_kind = chosen[id], chosen[other]
            if not (graph.related(id, no_kind) or graph.related(other, kind) or graph.alike(kind, no_kind)):
                pairs[id], pairs[other] = (kind, no_kind), (no_kind, kind)
                alone.remove(other)
                break
        else:
            alone.append(id)
    return pairs


class _Graph:
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


def _bare(text: str) -> str:
    """Return the words of a text, in lower case."""
    return " ".join(_WORD.findall(text.casefold()))


def _letters(name: str) -> frozenset[str]:
    """Return what tells a name from other spellings of its words, in any order.

    A thousand of 20,000 synonyms of diseases differ in a vowel or a z only (tumour, generalised).
    """
    return frozenset(word.translate(_SPELLINGS).rstrip("s") for word in _bare(name).split())
