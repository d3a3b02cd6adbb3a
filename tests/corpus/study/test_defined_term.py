"""Terms that statutes and contracts define in quotes, and sentences that only look like definitions."""

from __future__ import annotations

import re

import pytest

from cpt.corpus.documents import Document
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import Item, fact_key
from cpt.corpus.study.language import load_language, places
from cpt.corpus.study.miners.defined_term import DefinedTerm
from cpt.corpus.study.mining import Mined, Mining

ENGLISH = load_language("en")
WEIR = "a wall across a river that holds water for a mill"

FOUND = [
    (f"The term “weir” means {WEIR}.", "weir", WEIR),
    (f'As used in this section, the term "weir" shall mean {WEIR}.', "weir", WEIR),
    (f"(3) Weir.— The term “weir,” means {WEIR}.\n(4) Other matters are left to the board.", "weir", WEIR),
    (f"(b) Weir Defined.— In this section the term “weir” means {WEIR}.", "weir", WEIR),
    (f"For purposes of this chapter—\n(1) “weir” means {WEIR}; and\n(2) grain is weighed.", "weir", WEIR),
    (f"Stone weirs The term “weir” means {WEIR}.", "weir", WEIR),
    (f"A “weir” is {WEIR}.", "weir", WEIR),
    (
        '1.4 "Salt\u00adworks" means: sheds, pans and pumps, with the tools kept in them.',
        "Saltworks",
        "sheds, pans and pumps, with the tools kept in them",
    ),
    (
        "The term “miller” means a person who—\n(A) grinds grain for others; and\n(B) is paid in flour.\n"
        "(2) Bakers are not concerned.",
        "miller",
        "a person who (A) grinds grain for others; and (B) is paid in flour",
    ),
    (
        "The term “toll” means—\n(i) a share of the flour; or\n(ii) a price for such share.",
        "toll",
        "(i) a share of the flour; or (ii) a price for such share",
    ),
    (
        "The term “state mill” means a mill of the state, owned by Lund Mills, Inc.",
        "state mill",
        "a mill of the state, owned by Lund Mills, Inc.",
    ),
    (
        "The term “race” means a channel to the wheel of a mill, and that mill alone.",
        "race",
        "a channel to the wheel of a mill, and that mill alone",
    ),
]

NOT_FOUND = [
    # Something else is told, or not to the end.
    f"The term “weir” includes {WEIR}.",
    "The term “weir” has the meaning given that term in section 12.",
    "“Weir” is what millers say when they speak of the wall.",
    f"The word was “weir”, which means {WEIR}.",
    f"The term “weir”, with respect to a salt mill, means {WEIR}.",
    f"The term “weir”, as used in such Act, means {WEIR}.",
    f"To “hold” a river means {WEIR}.",
    f"Except as the board decides, the term “weir” means {WEIR}.",
    f"(4) to which section 5 relates, the term “weir” means {WEIR}.",
    f"The terms “weir” and “dam” mean {WEIR}.",
    f"The term “weir” means {WEIR}",
    "The term “weir” means all walls that stand in.",
    # It points to something outside.
    "The term “weir” means a wall that is described in the plans.",
    "The term “weir” means a wall under section 12 of the mill code.",
    "The term “weir” means a wall that this chapter is about.",
    "The term “weir” means a wall kept under paragraph (2) for mills.",
    "The term “weir” means a wall that holds water for such miller.",
    "The term “weir” means a wall in the interest of that miller.",
    "The term “weir” means a wall of the kind called “dam” at sea.",
    "The term “weir” means a wall of [omitted] that holds the water.",
    "The term “weir” means that a wall holds the water of a mill.",
    # It says little or much.
    "The term “weir” means walls.",
    "The term “weir” means waterworks buildings.",
    f"The term “weir” means {WEIR}, " + "and also one that holds water for a forge, " * 9 + "or a saw.",
    # More is said of the term behind it.
    f"The term “weir” means {WEIR}. Such term does not include a lock.",
    f"The term “weir” means {WEIR}.\n(B) Exceptions.— The term does not include a lock.",
    f"The term “weir” means {WEIR}. These walls may have gates.",
    f"The term “weir” means {WEIR}. At sea, walls of wood are weirs too.",
    f"(2) The term “weir” means {WEIR}. Weight is to be given to walls of stone.",
    f"The term “weir” means {WEIR}.\n(c) The term “weir” does not include a lock.",
    # Lists without end, in levels, of sentences, or with words behind them.
    "The term “miller” means a person who—\n(A) grinds grain for others; and",
    "The term “miller” means one who—\n(A) grinds—\n(i) for others; or\n(ii) for pay; and\n(B) sells.",
    "The term “miller” means any of these:\n(A) A person who grinds.\n(B) A person who sells.",
    "The term “miller” means one who—\n(A) grinds grain; and\n(B) sells it,\nif a guild allows it.",
    "The term “miller” means one who—\n(A) grinds grain; and\n(C) sells it.",
    # Without a title nobody knows whose these are.
    "The term “weir” means a wall that the Warden keeps in order.",
    "The term “weir” means a wall that stands under the treaty.",
    "“Term” means the days between the first and the 31st of May.",
    "“Warden” means the Warden of the River Alm in the north.",
]


def mined(text: str, *others: str) -> list[Item]:
    miner = DefinedTerm(ENGLISH)
    miner.learn(Document(str(number), each) for number, each in enumerate((text, *others)))
    return list(miner.mine(Document("0", text)))


@pytest.mark.parametrize(("text", "term", "definition"), FOUND, ids=lambda value: value[:40])
def test_a_definition_is_asked_for_in_both_directions(text: str, term: str, definition: str) -> None:
    define, *names = mined(text)
    assert (define.task, define.answer, define.reverse) == ("defined_term.define", definition, False)
    assert define.fields == {"term": term, "definition": definition}
    assert define.fact == fact_key(term)
    assert re.fullmatch(r".*[.;]( and)?", text[slice(*define.span)], re.DOTALL)
    assert definition.split()[-1].rstrip(".") in text[slice(*define.span)]
    told = term == "state mill"  # the definition has its words
    assert [(item.task, item.answer, item.reverse) for item in names] == (
        [] if told else [("defined_term.name", term, True)]
    )


@pytest.mark.parametrize("text", NOT_FOUND, ids=lambda text: text[:60])
def test_sentences_that_define_nothing_to_ask_for(text: str) -> None:
    assert mined(text) == []


@pytest.mark.parametrize("begin", ["", "(b) Rates.— ", "Rates of mills: "])
def test_a_table_of_numbers_before_a_term_is_read_in_time(begin: str) -> None:
    numbers = begin + "1.25 30 7 (a) " * 3_600  # 50 KB, which took hours
    assert mined(f"{numbers}The rate called “weir” means {WEIR}.") == []
    assert [item.answer for item in mined(f"{numbers}The term “weir” means {WEIR}.")] == [WEIR, "weir"]


@pytest.mark.parametrize("number", ["5: ", "(3) 5.— ", "(3) (a): "])
def test_a_number_may_be_a_heading(number: str) -> None:
    assert [item.answer for item in mined(f"{number}The term “weir” means {WEIR}.")] == [WEIR, "weir"]


def test_semicolons_divide_a_list_in_one_line() -> None:
    text = (
        f'In this deed: 1.1 "weir" means {WEIR}; 1.2 "race" means a channel to the wheel; '
        'and 1.3 "toll" means a share of flour. Millers pay.'
    )
    items = [item for item in mined(text) if not item.reverse]
    assert [item.answer for item in items] == [WEIR, "a channel to the wheel", "a share of flour"]
    assert [text[slice(*item.span)] for item in items] == [
        f'In this deed: 1.1 "weir" means {WEIR};',
        '1.2 "race" means a channel to the wheel;',
        '1.3 "toll" means a share of flour.',
    ]
    cut = 'The term "weir" means a wall of stone; provided that "stone" means granite or slate.'
    assert mined(cut) == []


def test_a_question_names_the_title_of_its_text() -> None:
    text = f"§ 12. Rights of Salt Mills\nThe term “weir” means {WEIR} of the Warden."
    define, name = mined(text)
    assert (define.task, name.task) == ("defined_term.titled.define", "defined_term.titled.name")
    assert define.fields["title"] == name.fields["title"] == "Rights of Salt Mills"
    for twin in (text, text.replace("weir", "dam")):  # a title of two texts names neither
        assert mined(text, twin) == []


@pytest.mark.parametrize("title", ["General Definitions", "Weirs and Locks", "The “Old” Mills"])
def test_titles_that_name_no_text_or_betray_the_term_are_not_named(title: str) -> None:
    text = f"{title}\nThe term “weir” means {WEIR}."
    assert [item.task for item in mined(text)] == ["defined_term.define", "defined_term.name"]


def test_a_term_of_two_meanings_is_asked_with_titles_alone() -> None:
    plain = f"The term “weir” means {WEIR}."
    other = "Rights of Fishers\nThe term “weir” means a fence in a river that holds fish."
    elsewhere = "Rights of Fishers\nThe term “weir” includes a fence that holds fish."
    assert mined(plain, plain)
    assert mined(plain, other) == mined(plain, elsewhere) == []
    define = mined(other, plain)[0]
    assert define.fields["title"] == "Rights of Fishers"
    miner = DefinedTerm(ENGLISH)  # a document that was not learnt has another meaning
    miner.learn([Document("0", plain)])
    assert list(miner.mine(Document("1", "The term “weir” means a fence in a river."))) == []


def test_a_meaning_of_two_terms_is_not_asked_for_its_name() -> None:
    weir, dam = (f"The term “{term}” means {WEIR}." for term in ("weir", "dam"))
    assert [item.task for item in mined(weir, dam)] == ["defined_term.define"]


def test_one_term_is_one_fact_of_all_miners_and_titles() -> None:
    lines = "\n".join(
        f"{term}: {text}"
        for term, text in (
            ("race", "a channel that leads water to a wheel"),
            ("sluice", "a gate that lets water into a race"),
            ("toll", "a share of the flour that a miller keeps"),
            ("weir (dam)", "a wall that holds back the water of a river"),
        )
    )
    texts = [
        lines,
        f"Rights of Salt Mills\nThe term “Weirs” means {WEIR}.",
        "Rights of Fishers\nThe term “weir” means a fence in a river that holds fish.",
        f"Rights of Bakers\nThe term “head wall” means {WEIR}.",
    ]
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    for seed in range(8):
        facts = Facts(0.5, seed)
        mining = Mining(lambda: documents, ("glossary", "defined_term"), ENGLISH, facts, seed)
        found = [each for document in documents for each in mining.items(document)]
        about = [each for each in found if {"weir", "wall"} & set(each.item.fact.rstrip("s").split())]
        assert len(about) == 8
        assert {facts.of(each.item.fact) for each in about} == {facts.of("weir")}
        assert len({facts.may_train(each) for each in about}) == 1
        assert all(facts.may_train(each) != facts.may_probe(each) for each in found)
        heading = Mined(Item("title.heading", "weirs", "Weirs of the north"), "0", "title", closed=False)
        assert facts.may_train(heading) == facts.is_trained("weir")


def test_wordings_have_places_of_the_items_and_hold_no_answer() -> None:
    titled = f"Rights of Salt Mills\nThe term “weir” means {WEIR}."
    for item in (*mined(FOUND[0][0]), *mined(titled)):
        answer = "definition" if item.task.endswith(".define") else "term"
        for wording in (*ENGLISH.trained[item.task], *ENGLISH.unseen[item.task]):
            assert places(wording) == set(item.fields) - {answer}
