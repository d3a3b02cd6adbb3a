"""Labels of an ontology say nothing by themselves: every yes is an ancestor, and names come with both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from made_ontologies import VEHICLES, ancestors, items, large, related

from cpt.corpus.study.items import chance
from cpt.corpus.study.language import load_language
from cpt.corpus.study.miners.ontology import Ontology, balanced, read_ontology
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.ontology_graph import Term


@pytest.fixture
def terms(tmp_path: Path) -> list[Term]:
    path = tmp_path / "vehicles.obo"
    path.write_text(VEHICLES)
    return read_ontology(path)


@pytest.mark.parametrize("seed", range(5))
def test_every_yes_is_an_ancestor_and_every_no_is_unrelated_and_of_the_same_depth(seed: int) -> None:
    terms = large()
    above = ancestors(terms)
    by_name = {term.name: term for term in terms}
    by_id = {term.id: term for term in terms}

    def depth(name: str) -> int:
        parents = by_name[name].parents
        return 1 + min(depth(by_id[parent].name) for parent in parents) if parents else 0

    asked: dict[str, dict[str, str]] = {}
    for item in items(terms, seed):
        if item.label:
            assert item.answer == {"yes": "Yes", "no": "No"}[item.label]
            assert item.label not in asked.setdefault(item.fields["name"], {})
            asked[item.fields["name"]][item.label] = item.fields["kind"]
    assert len(asked) > 100
    for name, kinds in asked.items():
        assert kinds["yes"] in above[name]
        assert not related(above, kinds["no"], name)
        assert depth(kinds["yes"]) == depth(kinds["no"]) > 0
    # Neither the term nor the kind alone says anything about the answer where all terms are asked about.
    assert Counter(kinds["yes"] for kinds in asked.values()) == Counter(
        kinds["no"] for kinds in asked.values()
    )


def by_side_and_kind(found: list[Mined], side: Callable[[str], bool]) -> dict[tuple[bool, str], Counter[str]]:
    """Count the labels of every kind on every side."""
    counts: dict[tuple[bool, str], Counter[str]] = {}
    for each in found:
        if each.item.label:
            key = side(each.item.fact), each.item.fields["kind"]
            counts.setdefault(key, Counter())[each.item.label] += 1
    return counts


def is_left(fact: str) -> bool:
    return chance("side", fact).random() < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_a_kind_says_nothing_of_the_answer_on_any_side(seed: int) -> None:
    terms = large()
    drawn = chance("drawn", seed).sample([term.name for term in terms], 200)
    sides = {name: is_left(name) for name in drawn}
    found = list(Ontology(load_language("en"), seed).items(terms, sides))
    assert {item.fact for item in found} <= sides.keys()
    mined = [Mined(item, item.fact, "ontology", True) for item in found]
    counts = by_side_and_kind(mined, is_left)
    assert {side for side, _ in counts} == {True, False}
    for labels in counts.values():
        assert labels["yes"] == labels["no"] > 0
    assert sum(map(Counter.total, counts.values())) > 150
    # Terms that are not asked about are still kinds and wrong answers.
    assert {kind for _, kind in counts} - sides.keys()
    assert {option for item in found for option in item.options} - sides.keys()
    assert balanced(mined, is_left) == mined


@pytest.mark.parametrize("seed", range(5))
def test_questions_whose_counterpart_is_on_another_side_are_left_out(seed: int) -> None:
    mined = [Mined(item, item.fact, "ontology", True) for item in items(large(), seed)]
    lost = set(chance("lost", seed).sample(sorted({each.item.fact for each in mined}), 40))
    asked = [each for each in mined if each.item.fact not in lost]
    assert any(labels["yes"] != labels["no"] for labels in by_side_and_kind(asked, is_left).values())
    kept = balanced(asked, is_left)
    assert [each for each in kept if not each.item.label] == [each for each in asked if not each.item.label]
    counts = by_side_and_kind(kept, is_left)
    for labels in counts.values():
        assert labels["yes"] == labels["no"]
    before = by_side_and_kind(asked, is_left)
    assert sum(map(Counter.total, counts.values())) > sum(map(Counter.total, before.values())) / 4


def test_a_term_of_two_ontologies_keeps_the_kinds_of_each() -> None:
    both = [Mined(item, item.fact, "ontology", True) for seed in (1, 2) for item in items(large(), seed)]
    assert balanced(both, lambda fact: True) == both
    for labels in by_side_and_kind(balanced(both, is_left), is_left).values():
        assert labels["yes"] == labels["no"]


def test_labels_are_balanced_and_both_directions_are_asked(terms: list[Term]) -> None:
    for some in (terms, large()):
        found = items(some)
        labels = Counter(item.label for item in found if item.label)
        assert labels["yes"] == labels["no"] > 0
        for one, other in (("define", "name"), ("synonym", "of_synonym"), ("parent", "child_of")):
            ways = {item.task: item.reverse for item in found}
            assert (ways[f"ontology.{one}"], ways[f"ontology.{other}"]) == (False, True)
