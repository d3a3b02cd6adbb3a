"""Mine ontologies in OBO format: definitions, synonyms and kinds of terms, asked in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.corpus.readers.obo import term_frames
from cpt.corpus.study.items import Item, chance, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.ontology_graph import Graph, Term

if TYPE_CHECKING:
    from cpt.corpus.study.mining import Mined

_LONGEST = 400
"""Most characters of a definition that is asked for: of the longest twentieth, most are paragraphs."""

_SHORTEST = 15

_WRONG = 3
"""Wrong options of a choice."""

_LABELS = ("yes", "no")

_TRIES = 12
"""Terms of a pool that are tried as wrong answers: on the upper levels of an ontology many are related."""


_WORD = re.compile(r"[^\W_]+")
_SPELLINGS = str.maketrans("z", "s", "aeiouy")


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

    def items(self, terms: Iterable[Term], sides: Mapping[str, Hashable] | None = None) -> Iterator[Item]:
        """Yield the items of the terms that are asked about, in order. All items of a term are one fact.

        Args:
            sides: Sides of the facts that are asked about, such as trained and only probed. Within a side
                every kind has as many questions with the answer yes as with no. By default all facts are on
                one side.
        """
        for _, items in self.by_term(terms, sides):
            yield from items

    def by_term(
        self, terms: Iterable[Term], sides: Mapping[str, Hashable] | None = None
    ) -> Iterator[tuple[Term, list[Item]]]:
        """Yield every term that is asked about with its items.

        Unnamed terms, and terms whose name another one has too, are not asked about. All terms can be kinds,
        parents and wrong answers.
        """
        terms = list(terms)
        graph = Graph(terms)
        keys = {id: fact_key(graph.terms[id].name) for id in graph.usable}
        sides = dict.fromkeys(keys.values(), True) if sides is None else sides
        asked = {id: sides[key] for id, key in keys.items() if key in sides}
        kinds = _kinds(graph, asked, self.seed)
        levels = _levels(graph)
        for term in terms:
            if graph.terms.get(term.id) is not term or term.id not in asked:
                continue
            rolled = chance(self.name, self.seed, term.id)
            found = [*_definitions(term, graph, rolled), *_synonyms(term, graph, rolled)]
            found += _hierarchy(term, graph, levels, rolled)
            answers = self.language.of(self.name, "answers")
            for label, kind in zip(_LABELS, kinds.get(term.id, ()), strict=False):
                fields = {"name": term.name, "kind": graph.terms[kind].name}
                found.append(Item("ontology.is_a", fact_key(term.name), answers[label], fields, label=label))
            yield term, found


def balanced(mined: Sequence[Mined], is_trained: Callable[[str], bool]) -> list[Mined]:
    """Return the items of ontologies without those of labels that have no counterpart on their side.

    Terms that exchanged their ancestors are parted if one of them is not asked about after all, or changes
    its side by another name that documents give it: 8 of 33,436 questions beside a book of anatomy.

    Args:
        is_trained: Side of a fact by its key.
    """
    groups: dict[tuple[bool, str, str], list[tuple[int, int]]] = {}
    labelled = (number for number, each in enumerate(mined) if each.item.label)
    for places in pairwise(labelled):
        first, second = (mined[place].item for place in places)
        if first.fact == second.fact and (first.label, second.label) == _LABELS:
            group = is_trained(first.fact), first.fields["kind"], second.fields["kind"]
            groups.setdefault(group, []).append(places)
    kept = {
        place
        for (side, yes, no), found in groups.items()
        for places, _ in zip(found, groups.get((side, no, yes), ()), strict=False)
        for place in places
    }
    return [each for number, each in enumerate(mined) if not each.item.label or number in kept]


def _definitions(term: Term, graph: Graph, rolled: Random) -> Iterator[Item]:
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


def _synonyms(term: Term, graph: Graph, rolled: Random) -> Iterator[Item]:
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
    term: Term, graph: Graph, levels: Mapping[int, Sequence[str]], rolled: Random
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


def _levels(graph: Graph) -> dict[int, list[str]]:
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


def _wrong(right: str, to: Sequence[str], drawn: Iterable[str], graph: Graph) -> tuple[str, ...]:
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


def _kinds(graph: Graph, sides: Mapping[str, Hashable], seed: int) -> dict[str, tuple[str, str]]:
    """Return an ancestor and an unrelated term of the ancestor's depth, by the id of a term.

    Two terms of a side exchange their ancestors. So on each side every term and every ancestor has the answer
    no as often as yes. Exchanged among all terms, before 1,000 are drawn and divided, 651 of 844 names of
    ancestors came with one answer only, and gave it away.
    """
    chosen: dict[str, str] = {}
    for id in sides:
        above = sorted(each for each in graph.above[id] if graph.depth.get(each) and each in graph.usable)
        if above and id not in graph.above[id]:
            chosen[id] = chance("kind", seed, id).choice(above)
    pairs: dict[str, tuple[str, str]] = {}
    waiting: dict[tuple[Hashable, int], list[str]] = {}
    ids = sorted(chosen)
    chance("pairs", seed).shuffle(ids)
    for id in ids:
        alone = waiting.setdefault((sides[id], graph.depth[chosen[id]]), [])
        for other in alone[-_TRIES:]:
            kind, no_kind = chosen[id], chosen[other]
            if not (graph.related(id, no_kind) or graph.related(other, kind) or graph.alike(kind, no_kind)):
                pairs[id], pairs[other] = (kind, no_kind), (no_kind, kind)
                alone.remove(other)
                break
        else:
            alone.append(id)
    return pairs


def _bare(text: str) -> str:
    """Return the words of a text, in lower case."""
    return " ".join(_WORD.findall(text.casefold()))


def _letters(name: str) -> frozenset[str]:
    """Return what tells a name from other spellings of its words, in any order.

    A thousand of 20,000 synonyms of diseases differ in a vowel or a z only (tumour, generalised).
    """
    return frozenset(word.translate(_SPELLINGS).rstrip("s") for word in _bare(name).split())
