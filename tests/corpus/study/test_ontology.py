"""Ontology items are right by the file: every yes is an ancestor, no wrong answer is related."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cpt.corpus.study.items import Item, chance
from cpt.corpus.study.language import load_language, places, worded
from cpt.corpus.study.miners.ontology import Ontology, balanced, read_ontology
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.ontology_graph import Term

# Vehicles with a diamond (an amphibious car is a road and a water vehicle), and faults at the end.
VEHICLES = r"""format-version: 1.4
ontology: vehicles

[Term]
id: V:0
name: Vehicle
def: "Something that carries people or goods." [made:up]

[Term]
id: V:1
name: Road vehicle
def: "A machine with wheels that travels on streets." [made:up, made:too]
is_a: V:0 ! Vehicle

[Term]
id: V:2
name: Water vehicle
def: "A machine that floats and travels on seas and rivers." []
synonym: "Watercraft" EXACT []
synonym: "Boat" BROAD []
is_a: V:0 ! Vehicle

[Term]
id: V:3
name: Air vehicle
def: "A machine that flies." []
is_a: V:0

[Term]
id: V:10
name: Motor car
def: "A machine with four wheels and an engine\nfor a few \"persons\"." [made:up]
synonym: "Automobile" EXACT []
synonym: "Motor cars" EXACT plural_form []
synonym: "Banger" NARROW []
is_a: V:1 ! Road vehicle

[Term]
id: V:11
name: Bicycle
def: "It has two wheels and pedals, and its rider keeps it upright." []
synonym: "Push bike" EXACT []
synonym: "Pedal cycle" EXACT []
is_a: V:1

[Term]
id: V:12
name: Tricycle
def: "It has three wheels and pedals." []
is_a: V:1

[Term]
id: V:13
name: Lorry
def: "It carries heavy goods between towns." []
synonym: "Truck" EXACT []
is_a: V:1

[Term]
id: V:20
name: Ferry
def: "It carries people and cars across a river, again and again." []
is_a: V:2

[Term]
id: V:21
name: Canoe
def: "It is narrow and is moved by paddles." []
is_a: V:2

[Term]
id: V:30
name: Glider
def: "It flies without an engine." []
is_a: V:3

[Term]
id: V:31
name: Airship
def: "It is lifted by a gas that is lighter than air." []
is_a: V:3

[Term]
id: V:32
name: Balloon
def: "A balloon is lifted by hot air." []
is_a: V:3

[Term]
id: V:100
name: Amphibious car
def: "It drives on streets and swims in lakes." []
is_a: V:10
is_a: V:2

[Term]
id: V:101
name: Racing car
def: "It is made for speed alone." []
is_a: V:10

[Term]
id: V:102
name: Old thing
def: "It is out of use." []
is_obsolete: true

[Term]
id: V:103
name: Rickshaw
def: "It has three wheels and pedals." []
is_a: V:12
is_a: V:999 ! not in this file

[Term]
id: V:200
name: Circle
def: "It is above what is above it." []
is_a: V:201

[Term]
id: V:201
name: Ring
def: "It is below what is below it." []
is_a: V:200

[Term]
id: V:202
name: Self
def: "It is a kind of itself." []
is_a: V:202

[Term]
id: V:203
is_a: V:3
"""


@pytest.fixture
def terms(tmp_path: Path) -> list[Term]:
    path = tmp_path / "vehicles.obo"
    path.write_text(VEHICLES)
    return read_ontology(path)


def items(terms: list[Term], seed: int = 0) -> list[Item]:
    return list(Ontology(load_language("en"), seed).items(terms))


def ancestors(terms: list[Term]) -> dict[str, set[str]]:
    """The names above every name, by going up until nothing is new."""
    names = {term.id: term.name for term in terms}
    above = {term.name: {names[parent] for parent in term.parents if parent in names} for term in terms}
    while True:
        wider = {name: found.union(*(above[each] for each in found)) for name, found in above.items()}
        if wider == above:
            return above
        above = wider


def related(above: dict[str, set[str]], one: str, two: str) -> bool:
    return one == two or one in above[two] or two in above[one]


def large(count: int = 400) -> list[Term]:
    """A made ontology: a term has one or two parents among those before it, and shares some of its names."""
    made = [Term("T:1", "matter"), Term("T:0", "thing")]
    for number in range(2, count):
        rolled = chance("large", number)
        parents = dict.fromkeys(
            f"T:{rolled.randrange(max(2, number // 2))}" for _ in range(rolled.choice([1, 1, 2]))
        )
        synonyms = tuple(f"alias {rolled.randrange(count)} of {side}" for side in ("left", "right"))
        definition = f"This is the one that stands at place {rolled.randrange(count)}."
        made.append(Term(f"T:{number}", f"name {number}", definition, synonyms, parents=tuple(parents)))
    return made


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


def test_labels_are_balanced_and_both_directions_are_asked(terms: list[Term]) -> None:
    for some in (terms, large()):
        found = items(some)
        labels = Counter(item.label for item in found if item.label)
        assert labels["yes"] == labels["no"] > 0
        for one, other in (("define", "name"), ("synonym", "of_synonym"), ("parent", "child_of")):
            ways = {item.task: item.reverse for item in found}
            assert (ways[f"ontology.{one}"], ways[f"ontology.{other}"]) == (False, True)


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
