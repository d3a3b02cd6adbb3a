"""Ontology items are right by the file: no wrong answer is related to the right one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from made_ontologies import VEHICLES, ancestors, items, large, related

from cpt.corpus.study.language import load_language, places, worded
from cpt.corpus.study.miners.ontology import Ontology, read_ontology
from cpt.corpus.study.ontology_graph import Term


@pytest.fixture
def terms(tmp_path: Path) -> list[Term]:
    path = tmp_path / "vehicles.obo"
    path.write_text(VEHICLES)
    return read_ontology(path)


def test_terms_are_read_with_their_own_synonyms_and_without_references(terms: list[Term]) -> None:
    by_id = {term.id: term for term in terms}
    assert "V:102" not in by_id
    assert by_id["V:10"] == Term(
        "V:10",
        "Motor car",
        'A machine with four wheels and an engine for a few "persons".',
        ("Automobile", "Motor cars"),
        ("Banger",),
        ("V:1",),
    )
    assert by_id["V:100"].parents == ("V:10", "V:2")
    assert by_id["V:203"].name == ""


def test_the_items_of_a_term(terms: list[Term]) -> None:
    found = [item for item in items(terms) if item.fact == "bicycle"]
    assert [(item.task, item.answer, item.reverse) for item in found if not item.label] == [
        ("ontology.define", "It has two wheels and pedals, and its rider keeps it upright.", False),
        ("ontology.name", "Bicycle", True),
        ("ontology.choice", "Bicycle", True),
        ("ontology.synonym", found[3].answer, False),
        ("ontology.of_synonym", "Bicycle", True),
        ("ontology.of_synonym", "Bicycle", True),
        ("ontology.parent", "Road vehicle", False),
        ("ontology.child_of", "Bicycle", True),
    ]
    assert [item.fields["synonym"] for item in found if item.task == "ontology.of_synonym"] == [
        "Push bike",
        "Pedal cycle",
    ]
    assert found[3].answer in {"Push bike", "Pedal cycle"}
    assert set(found[2].options) == {"Bicycle", "Motor car", "Tricycle", "Lorry"}  # the siblings


def test_questions_that_have_no_one_answer_or_give_it_away_are_not_asked(terms: list[Term]) -> None:
    by_task: dict[str, set[str]] = {}
    for item in items(terms):
        by_task.setdefault(item.task.partition(".")[2], set()).add(item.fact)
    assert "balloon" in by_task["define"]
    assert "balloon" not in by_task["name"] | by_task["choice"]  # its definition says balloon
    assert "tricycle" in by_task["define"]
    assert "tricycle" not in by_task["name"] | by_task["choice"]  # a rickshaw has the same definition
    assert "amphibious car" not in by_task["parent"]  # two parents
    assert "road vehicle" not in by_task["parent"]  # the root is no answer
    assert {"circle", "ring", "self"}.isdisjoint(by_task["parent"] | by_task["is_a"] | by_task["child_of"])
    synonyms = [item for item in items(terms) if item.task == "ontology.of_synonym"]
    assert {"Motor cars", "Boat", "Banger"}.isdisjoint(item.fields["synonym"] for item in synonyms)


def test_a_name_of_two_terms_is_not_asked_about() -> None:
    same = [
        Term("A", "seal", "A mammal that lives in cold seas."),
        Term("B", "Seal", "A stamp of wax on a letter."),
    ]
    shared = [
        Term("C", "bank", "A slope beside a river.", ("side",)),
        Term("D", "edge", "The border of a plane.", ("side",)),
    ]
    assert items(same) == []
    assert {item.task for item in items(shared)} == {"ontology.define", "ontology.name"}


@pytest.mark.parametrize("seed", range(3))
def test_wrong_options_are_wrong(seed: int) -> None:
    terms = large()
    above = ancestors(terms)
    by_name = {term.name: term for term in terms}
    found = Counter[str]()
    for item in items(terms, seed):
        if not item.options:
            continue
        found[item.task] += 1
        assert len(set(item.options)) == 4
        wrong = set(item.options) - {item.answer}
        assert len(wrong) == 3
        term = by_name[item.fields["name"]]
        gold = by_name[item.answer]
        for other in wrong:
            assert not related(above, other, term.name)
            assert {gold.name, *gold.synonyms}.isdisjoint({other, *by_name[other].synonyms})
            if item.task == "ontology.choice":
                assert by_name[other].definition != gold.definition
            if item.task == "ontology.child_of":
                assert not related(above, other, item.fields["parent"])
    assert set(found) == {"ontology.choice", "ontology.parent", "ontology.child_of"}


def test_items_depend_on_the_seed_and_not_on_the_order() -> None:
    terms = large()
    first = items(terms)
    assert items(terms) == first
    assert items(terms, seed=1) != first
    assert sorted(map(repr, items(terms[::-1]))) == sorted(map(repr, first))


def test_all_items_of_a_term_are_one_fact(terms: list[Term]) -> None:
    for term, found in Ontology(load_language("en")).by_term(terms):
        assert {item.fact for item in found} <= {term.name.casefold()}


def test_every_task_has_wordings_whose_places_are_fields() -> None:
    language = load_language("en")
    found = {item.task: item for item in items(large())}
    assert set(found) == {task for task in language.trained if task.startswith("ontology.")}
    for task, item in found.items():
        for wording in (*language.trained[task], *language.unseen[task]):
            assert places(wording) <= {*item.fields, "options"}
            assert "{options}" not in wording or item.options
            question = worded(item, wording, 0)
            assert question.answer
            assert not question.prompt.endswith(item.answer)


def test_large_circles_and_long_chains_end() -> None:
    chain = [Term(f"C:{n}", f"link {n}", parents=(f"C:{n - 1}",) if n else ()) for n in range(1500)]
    circle = [Term(f"D:{n}", f"bead {n}", parents=(f"D:{(n + 1) % 500}",)) for n in range(500)]
    assert not any(item.label for item in items(circle))
    assert {item.task for item in items(chain)} == {"ontology.parent"}
