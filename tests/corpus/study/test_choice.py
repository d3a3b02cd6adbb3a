"""Sentences with a gap: the term fits, three others do not, and the sentence says enough to know."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item, fact_key
from cpt.corpus.study.language import load_language, places, worded
from cpt.corpus.study.miners.choice import Choice
from cpt.corpus.study.miners.glossary import Glossary

GLOSSARY = """\
glaze: glassy coating that melts onto the surface of a pot and seals it against water
grog: crushed hard pottery that is added to clay to prevent cracks
kiln: oven that reaches the high temperatures needed to harden clay
slip: liquid mixture of clay and water that joins pieces or decorates them
throwing (also, turning): shaping of a vessel from a lump of clay while it spins
wheel: turning table on which a potter shapes round vessels by hand
"""
KILN = "The kiln is an oven with temperatures that are high enough to harden clay."
GLAZE = "Behind the door a glassy coating called glaze melts over the surface and seals a cup against water."
SLIP = "Handles are joined to a cup with slip, a liquid mixture of clay and water."
CAPITALS = "".join(f"{line[0].upper()}{line[1:]}\n" for line in GLOSSARY.splitlines())
POTTERY = Document("pottery", f"Pottery\n{KILN} {GLAZE}\n{SLIP}\n{GLOSSARY}")


def in_order(text: str) -> str:
    """Sort the lines of each glossary, as glossaries are."""
    runs = groupby(text.split("\n"), key=lambda line: ": " in line and not line.endswith("."))
    return "\n".join(
        line for is_term, lines in runs for line in (sorted(lines, key=str.casefold) if is_term else lines)
    )


def mined(text: str | Document, *others: Document) -> list[Item]:
    document = Document("text", in_order(text)) if isinstance(text, str) else text
    miner = Choice(load_language("en"))
    miner.learn([document, *others])
    return list(miner.mine(document))


def answers(text: str) -> list[str]:
    return [item.answer for item in mined(f"{text}\n{GLOSSARY}")]


def test_the_sentences_of_a_document() -> None:
    found = mined(POTTERY)
    assert [(item.answer, item.fields["sentence"]) for item in found] == [
        ("kiln", KILN.replace("kiln", "____")),
        ("glaze", GLAZE.replace("glaze", "____")),
        ("slip", SLIP.replace("slip", "____")),
    ]
    assert [POTTERY.text[slice(*item.span)] for item in found] == [KILN, GLAZE, SLIP]
    assert {(item.task, item.label) for item in found} == {("choice.choose", "")}
    assert set(found[1].options) < {"kiln", "glaze", "slip", "wheel", "throwing", "grog"}


def test_options_are_four_terms_of_which_none_gives_itself_away() -> None:
    for item in mined(POTTERY):
        sentence = item.fields["sentence"].casefold()
        assert len(set(item.options)) == 4
        assert item.answer in item.options
        for option in item.options:
            assert option.casefold() not in sentence
            assert not any(option in other for other in item.options if other != option)
            assert len(option) <= 2 * len(item.answer)
            assert len(item.answer) <= 2 * len(option)


def test_facts_are_those_of_the_glossary() -> None:
    text = "A vessel gets its shaping by throwing, from a lump of clay that spins fast."
    document = Document("text", f"{text}\n{GLOSSARY}")
    (item,) = mined(document)
    assert (item.answer, item.fact) == ("throwing", fact_key("throwing (also, turning)"))
    assert item.fact in {each.fact for each in Glossary(load_language("en")).mine(document)}


def test_sentences_that_say_too_little_or_too_much_are_left_out() -> None:
    assert answers(KILN) == ["kiln"]
    assert answers(KILN.replace("The kiln", "This kiln")) == []  # refers to the sentence before it
    assert answers("A kiln is a high oven for clay.") == []  # short
    assert answers("In the yard behind the house stood a kiln that nobody had used for many years.") == []
    assert answers(KILN.replace("The kiln", "The kilns")) == []
    assert answers(f"{KILN[:-1]} in a kiln.") == []  # twice
    assert answers(f"{KILN[:-1]} better than other kilns.") == []  # the rest has it in the plural
    kind = "kind: group of pots with equal shape and size\n"
    once = "Sellers say of pots with equal shape and size that they are of one kind"
    assert answers(f"{once}.\n{kind}") == ["kind"]
    assert answers(f"{once}, or of a like kind.\n{kind}") == []
    assert answers(KILN.replace("kiln", "kiln (K)")) == []  # the short form would be left in
    assert answers(f"{KILN[:-1]}, as Figure 3 shows.") == []
    assert answers(f"Moor, A. (2011). {KILN}") == []  # a list of references
    assert answers(KILN.replace(".", "?")) == []


def test_the_longest_term_counts() -> None:
    shelf = "kiln shelf: heat-proof board on which pots stand in rows while they are fired\n"
    others = "clay body: earth that is ready\nslip trail: fine line of fluid\nfoot ring: edge below a bowl\n"
    text = "Pots stand in rows on a heat-proof board, the kiln shelf, while they are fired."
    assert answers(f"{text}\n{shelf}{others}") == ["kiln shelf"]
    assert answers(f"An oven with temperatures high enough to harden clay is a kiln.\n{shelf}") == ["kiln"]


def test_capitals_tell_names_from_words_unless_all_terms_have_them() -> None:
    school = "A school of potters who shape by hand is called SPIN by friends of the vessel."
    spin = "SPIN: school of potters who shape every vessel by hand\n"
    names = "RAKU: fast way to fire a bowl\nKAOLIN: white earth for bowls\nTERRA: red coat on fine bowls\n"
    assert mined(f"{school}\n{GLOSSARY}{spin}") == []  # no other option in capitals
    for glossary in (GLOSSARY, CAPITALS):
        assert [item.answer for item in mined(f"{school}\n{glossary}{spin}{names}")] == ["SPIN"]
        assert mined(f"{school.replace('SPIN', 'spin')}\n{glossary}{spin}{names}") == []
    assert [item.answer for item in mined(f"{KILN}\n{CAPITALS}")] == ["Kiln"]
    assert mined(f"{KILN}\n{GLOSSARY.replace('kiln', 'Kiln')}") == []


def test_lines_of_a_glossary_are_no_sentences() -> None:
    assert mined("\n".join(f"{line}." for line in CAPITALS.splitlines())) == []


def test_of_many_sentences_two_are_taken_those_that_say_most() -> None:
    weak = "Builders say that an oven is no kiln unless it is high and stands on solid ground."
    least = "Potters say that clay from this coast wants a kiln with rather high temperatures and much air."
    best = "To harden clay, a kiln that reaches temperatures as high as those of an oven for iron is needed."
    assert answers(f"{weak} {least}") == ["kiln"]  # of the weak one two words are in the definition
    assert answers(f"{KILN} {KILN}") == ["kiln"]
    chosen = mined(f"{least} {best} {KILN}\n{GLOSSARY}")
    assert [item.fields["sentence"].replace("____", "kiln") for item in chosen] == [best, KILN]


def test_a_wrong_option_whose_definition_fits_too_is_not_offered() -> None:
    rival = "pit: oven in the ground that reaches temperatures high enough to harden clay\n"
    for number in range(20):
        (item,) = mined(f"{KILN[:-1]} of sort {number}.\n{GLOSSARY}{rival}")
        assert "pit" not in item.options


def test_terms_of_the_sentence_are_not_offered() -> None:
    (item,) = mined(f"{KILN[:-1]}, glaze and slip.\n{GLOSSARY}")
    assert set(item.options) == {"kiln", "wheel", "throwing", "grog"}


def test_an_article_gives_no_option_away() -> None:
    urns = (
        "urn: vase with a foot and a lid\noven: closed chamber for roasting\n"
        "ochre: yellow earth that colours a bowl\nengobe: thin coat on a raw pot\n"
    )
    text = "Before it is fired, a vase with a foot and a lid is called an urn by potters."
    (item,) = mined(f"{text}\n{GLOSSARY}{urns}")
    assert set(item.options) == {"urn", "oven", "ochre", "engobe"}


def test_terms_of_other_documents_are_found_with_options_of_their_glossary() -> None:
    # They share the word high with the definition of a kiln, but are of another glossary.
    sailing = Document(
        "sailing",
        "boom: high pole of a sail\nhelm: high wheel of a boat\njib: high sail of a boat\n"
        "keel: high fin of a boat\nluff: high edge of a sail\nmast: high pole of a boat\n",
    )
    text = Document("text", KILN)
    (item,) = mined(text, sailing, POTTERY)
    assert set(item.options) < {"kiln", "glaze", "slip", "wheel", "throwing", "grog"}
    assert mined(text) == []


def test_items_do_not_depend_on_the_order_of_documents() -> None:
    rival = Document("another", f"{SLIP}\n{GLOSSARY.replace('wheel', 'bench').replace('grog', 'sand')}")
    plain = Document("plain", f"{KILN} {SLIP}")

    def all_items(documents: Iterable[Document]) -> dict[str, list[Item]]:
        documents = list(documents)
        miner = Choice(load_language("en"))
        miner.learn(documents)
        return {document.id: list(miner.mine(document)) for document in documents}

    first = all_items([POTTERY, rival, plain])
    assert all_items([plain, rival, POTTERY]) == first
    assert [len(first[id]) for id in ("pottery", "another", "plain")] == [3, 1, 2]


def test_every_wording_asks_with_the_sentence_and_the_options() -> None:
    language = load_language("en")
    item = mined(POTTERY)[0]
    assert [task for task in language.trained if task.startswith("choice.")] == [item.task]
    for wording in (*language.trained[item.task], *language.unseen[item.task]):
        assert places(wording) == {"sentence", "options"}
        assert worded(item, wording, 0).answer in {"kiln", "A", "B", "C", "D"}
