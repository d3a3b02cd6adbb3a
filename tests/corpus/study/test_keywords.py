"""Words of a domain come back within few texts, and sentences with several of them are asked for."""

from __future__ import annotations

import math

import pytest
from made_language import with_abbreviation

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import Language, load_language, places
from cpt.corpus.study.miners.keywords import Keywords, _residual

ENGLISH = load_language("en")

SAILS = (
    "Mainsail, headsail and spinnaker drive a boat together. The mainsail hangs behind the mast. The "
    "headsail hangs in front of it. The spinnaker is set when the wind comes from behind. With the "
    "spinnaker down, the mainsail and the headsail are enough. A mainsail can be made smaller. A headsail "
    "can be rolled up. No spinnaker can."
)
FIRST = "Mainsail, headsail and spinnaker drive a boat together."
SECOND = "With the spinnaker down, the mainsail and the headsail are enough."
PLAIN = (
    "Everybody who has travelled remembers something particularly beautiful, or something particularly "
    "difficult. Afterwards everybody tells others about it, and sometimes the difficult things become the "
    "better stories. Number {number} of our stories is about something else again, as everybody will see in "
    "the following lines."
)
OTHERS = [PLAIN.format(number=number) for number in range(40)]


def mined(text: str, others: list[str] = OTHERS, language: Language = ENGLISH) -> list[Item]:
    miner = Keywords(language)
    miner.learn(Document(str(number), each) for number, each in enumerate([text, *others]))
    return list(miner.mine(Document("0", text)))


def test_golden_items() -> None:
    (item,) = mined(SAILS)
    assert (item.task, item.answer, item.reverse) == ("keywords.sentence", SECOND, False)
    assert item.fields == {"words": "spinnaker, mainsail, headsail"}
    assert SAILS[slice(*item.span)] == SECOND
    assert item.hidden == item.span


def test_the_first_word_of_a_sentence_loses_its_capital_if_others_have_none() -> None:
    text = SAILS.replace(FIRST, f"{FIRST[:-1]}, whatever the weather is.")
    assert [item.fields["words"] for item in mined(text)] == [
        "mainsail, headsail, spinnaker",
        "spinnaker, mainsail, headsail",
    ]


def test_sentences_end_as_their_language_says() -> None:
    longer = f"{SECOND[:-1]}, says Mlr. Ahrend."
    text = SAILS.replace(SECOND, longer)
    assert mined(text)[0].answer == longer.removesuffix(" Ahrend.")
    assert mined(text, language=with_abbreviation("Mlr"))[0].answer == longer


def test_at_most_two_sentences_of_a_document() -> None:
    assert len(mined(" ".join([SAILS, *[f"{number} {SECOND}" for number in "abc"], SECOND, SECOND]))) == 2


def test_words_that_are_everywhere_are_no_words_of_the_domain() -> None:
    assert mined(OTHERS[0]) == []
    assert mined(SAILS, [SAILS] * 40) == []


def test_names_in_references_are_no_words() -> None:
    cited = SAILS.replace(SECOND, f"{SECOND[:-1]} (Spinnaker & Mainsail, 2004), as is a catamaran.")
    assert cited != SAILS
    assert [item.fields["words"] for item in mined(cited)] == ["spinnaker, mainsail, headsail"]


@pytest.mark.parametrize(
    "text",
    [
        SAILS.replace(SECOND, "Spinnaker, mainsail, headsail."),  # too short
        "\n".join(SAILS.split(". ")),  # short lines: a list
        SAILS.replace(SECOND, "Spinnaker Mainsail And Headsail Are The Names Of The Three Sails Here."),
        SAILS.replace(SECOND, "spinnaker 1204-5566, mainsail 1204-5567, headsail 1204-5568, 1204-5569."),
        SAILS.replace(SECOND, "Take the spinnaker down when the mainsail and the headsail are enough."),
        SAILS.replace(SECOND, f"It is like this: {SECOND[0].lower()}{SECOND[1:]}"),
        SAILS.replace(SECOND, f"{SECOND[:-1]}, as this chapter says."),
        SAILS.replace(SECOND, f"{SECOND[:-1]} (see )."),
        SAILS.replace(SECOND, f"{SECOND[:-1]}, as §4 asks."),
        SAILS.replace("With the spinnaker down", "With that spinnaker-mainsail-headsail set"),  # compounds
        f"Preface\n{SAILS}",
        f"Sailor, A. (2004). {SAILS}",
        "",
    ],
)
def test_nothing_is_found_in_look_alikes(text: str) -> None:
    assert mined(text) == []


def test_lines_of_a_glossary_are_not_asked_for() -> None:
    lines = "\n".join(
        f"{name}: {SECOND} It is told here once more in {name}." for name in ("port", "mast", "boom", "keel")
    )
    assert [item.fields["words"] for item in mined(f"{SAILS}\n{lines}")] == ["spinnaker, mainsail, headsail"]


def test_the_surplus_is_that_over_words_scattered_at_random() -> None:
    # A word that occurs once in each of few documents has none; twice in each of few has a bit.
    assert _residual(10, 10, 100_000) == pytest.approx(0, abs=1e-3)
    assert _residual(20, 10, 100_000) == pytest.approx(1, abs=1e-3)
    assert _residual(1000, 250, 500) == pytest.approx(math.log2((1 - math.exp(-2)) * 2))


def test_nothing_is_known_before_documents_are_read() -> None:
    assert list(Keywords(ENGLISH).mine(Document("0", SAILS))) == []


def test_wordings_have_places_of_their_items() -> None:
    items = {item.task: item for item in mined(SAILS)}
    assert items.keys() == {"keywords.sentence"}
    for task, item in items.items():
        for unseen in (False, True):
            for wording in ENGLISH.wordings(task, unseen=unseen):
                assert places(wording)
                assert places(wording) <= item.fields.keys()
                assert not wording.endswith((" ", "\n"))
