"""All names of a fact stand on one side, and terms are found in texts."""

from __future__ import annotations

import pytest

from cpt.corpus.study.facts import Facts, Terms, named_in, singular
from cpt.corpus.study.items import Item, fact_key
from cpt.corpus.study.mining import Mined


def defined(term: str, definition: str) -> Mined:
    fields = {"term": term, "definition": definition}
    return Mined(Item("glossary.define", fact_key(term), definition, fields), "doc", "glossary", True)


def asked(question: str, answer: str) -> Mined:
    item = Item("existing.answer", fact_key(question), answer, {"question": question})
    return Mined(item, "doc", "existing", True)


def headed(heading: str) -> Mined:
    return Mined(Item("title.heading", fact_key(heading), heading, reverse=True), "doc", "title", False)


def facts(*mined: Mined, share: float = 0.5, seed: int = 17) -> Facts:
    found = Facts(share, seed)
    for each in mined:
        found.add(each)
    return found


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("mills", "mill"),
        ("bodies", "body"),
        ("boxes", "box"),
        ("classes", "class"),
        ("branches", "branch"),
        ("abscess", "abscess"),
        ("radius", "radius"),
        ("axis", "axis"),
        ("gas", "gas"),
        ("mill", "mill"),
    ],
)
def test_plurals_lose_their_ending(word: str, expected: str) -> None:
    assert singular(word) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (defined("salt mill", "it grinds salt"), defined("salt mills", "they are of stone")),
        (defined("grinding rate (GR)", "salt per hour"), defined("GR", "how much is ground")),
        (defined("sluice (also, gate, lock)", "it holds water"), defined("lock", "part of a mill")),
        (defined("sensor", "(also, receptor) reports a value"), defined("receptor", "tells a value")),
        (defined("weir", "low wall across a river"), defined("dam", "Low walls across a river")),
    ],
)
def test_names_of_one_fact_are_joined_whatever_the_order(one: Mined, other: Mined) -> None:
    for pair in ((one, other), (other, one)):
        found = facts(*pair)
        assert found.of(one.item.fact) == found.of(other.item.fact)
        assert len(found) == 1
        assert found.is_trained(one.item.fact) == found.is_trained(other.item.fact)


def test_other_facts_stay_apart_and_are_divided_by_the_share() -> None:
    mined = [defined(f"brolum {chr(97 + n % 26)}{n}k", f"part number {n} of it") for n in range(400)]
    found = facts(*mined)
    assert len(found) == 400
    trained = sum(found.is_trained(each.item.fact) for each in mined)
    assert 160 < trained < 240
    assert len(found.probed()) == 400 - trained
    assert all(facts(*mined, share=1).is_trained(each.item.fact) for each in mined)


def test_questions_and_headings_that_name_a_probed_fact_are_not_trained_on() -> None:
    mined = [defined(f"brolum{n}k", f"part number {n} of it") for n in range(40)]
    found = facts(*mined)
    for number, each in enumerate(mined):
        trained = found.is_trained(each.item.fact)
        assert found.may_train(headed(f"Brolum{number}k")) == trained
        assert found.may_train(each) == trained
        question = asked(f"What is a brolum{number}k?", "a part")
        answer = asked(f"Which part is the {number}th?", f"Brolum{number}ks")
        for one in (question, answer):
            found.add(one)
            assert found.may_train(one) == (trained and found.is_trained(one.item.fact))
    assert found.may_train(headed("Of something else"))


def test_tasks_that_turn_on_the_name_of_a_probed_fact_are_not_trained_on() -> None:
    mined = [defined(f"brolum{n}k", f"part number {n} of it") for n in range(40)]
    found = facts(*mined)
    text = "Long text about all of it. " * 9

    def open_item(miner: str, answer: str, **fields: str) -> Mined:
        return Mined(Item(f"{miner}.task", fact_key(answer), answer, fields), "doc", miner, False)

    for number, each in enumerate(mined):
        trained, name = found.is_trained(each.item.fact), f"brolum{number}k"
        named = f"{text} A {name} is a part."
        for heading in (f"{name}s", f"The {name}", f"Structure of the {name}s"):
            assert found.may_train(headed(heading)) == trained
        assert found.may_train(open_item("title", named, title=f"The {name}s")) == trained
        assert found.may_train(open_item("keywords", named, words=f"{name}, part")) == trained
        assert found.may_train(open_item("keywords", f"{name}, part", sentence=named)) == trained
        assert found.may_train(open_item("order", named, sentences=named))  # the document's own text
        assert found.may_train(open_item("title", named, title="Of something else"))


PROBED = "a broad sheet of linked fibres that covers hollow organs"
"""Content words: broad, sheet, linked, fibre, that, cover, hollow, organ."""


def test_an_item_that_states_a_probed_fact_is_not_trained_on() -> None:
    mined = [defined(f"brolum{n}k", f"{PROBED} {n}") for n in range(20)]
    mined += [defined(f"galvet{n}k", f"tube number {n} of it") for n in range(20)]
    found = facts(*mined)
    trained = [n for n in range(20) if found.is_trained(f"galvet{n}k")]
    sides = set()
    for at, each in enumerate(mined[:20]):
        name, own = f"brolum{at}k", found.is_trained(each.item.fact)
        sides.add(own)
        for text, is_stated in (
            (f"broad and hollow sheet of linked fibres like {name}s", True),  # 5 of 8
            (f"a {name} of linked fibres on a broad tube", False),  # 3 of 8
            ("broad sheet of linked fibres that covers hollow organs", False),  # names it not
        ):
            for number in trained:
                one = defined(f"galvet{number}k", text)
                assert found.may_train(one) == (own or not is_stated), text
                sentence = {"sentence": f"A {text} is a _____."}
                item = Item("choice.choose", f"galvet{number}k", f"galvet{number}k", sentence)
                assert found.may_train(Mined(item, "doc", "choice", True)) == (own or not is_stated)
        assert found.stated(f"A {name}: {PROBED}") == {found.of(name)}
    assert sides == {True, False}


def test_short_definitions_state_nothing_and_all_of_a_fact_count() -> None:
    short = facts(defined("brolum", "kind of brolum wall"))
    assert short.stated("A brolum is a kind of wall") == set()
    two = facts(defined("brolum", "grey stone under water"), defined("brolums (also, bricum)", PROBED))
    for text in (f"A brolum is {PROBED}", "Bricums: of grey stone, always under water"):
        assert two.stated(text) == {two.of("brolum")}
    assert two.stated("A brolum is of stone, and hollow") == set()
    two.add(defined("galvet", "red glass above ground"))
    assert two.stated("A galvet is red glass above the ground.") == {"galvet"}


def test_a_remark_in_brackets_is_no_name() -> None:
    terms = [defined(f"{term} (verb)", f"to {term} something") for term in ("grind", "steer", "abduct")]
    found = facts(*terms)
    assert len(found) == 3
    both = facts(defined("brolum (BR)", "a part"), defined("bricum (BR)", "a wall"), defined("BR", "a place"))
    assert len(both) == 3


def test_a_question_probes_only_if_no_term_that_it_names_is_trained_on() -> None:
    mined = [defined(f"brolum{n}k", f"part number {n} of it") for n in range(40)]
    found = facts(*mined)
    seen = set()
    for number, each in enumerate(mined):
        question = asked(f"What is a brolum{number}k?", "a part")
        found.add(question)
        own, term = found.is_trained(question.item.fact), found.is_trained(each.item.fact)
        assert found.may_probe(question) == (not own and not term)
        assert found.may_probe(each) == (not term)
        seen.add((own, term))
    assert len(seen) == 4


def test_terms_are_found_by_whole_words_in_any_case_and_number() -> None:
    terms = ["salt mill", "weir", "GR"]
    assert set(Terms(terms).of("The Salt Mills of the coast have weirs, and a gr.")) == set(terms)
    assert set(Terms(terms).of("A weird salty mill grows.")) == set()
    assert named_in(["no such thing", "two weirs"], terms) == {"weir"}


def test_held_out_facts_are_joined_and_not_known() -> None:
    found = Facts(0.5, 17)
    found.add(defined("salt mill", "it grinds salt"))
    found.add(defined("salt mills", "they grind"), held_out=True)
    found.add(defined("weir", "a wall"), held_out=True)
    assert found.of("salt mills") == found.of("salt mill")
    assert found.known == {"salt mill"}
