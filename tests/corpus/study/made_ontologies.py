"""Ontologies for tests: a small one with all faults, and large ones that are made."""

from __future__ import annotations

from cpt.corpus.study.items import Item, chance
from cpt.corpus.study.language import load_language
from cpt.corpus.study.miners.ontology import Ontology
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
