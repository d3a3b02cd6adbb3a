"""Terms in texts against regular expressions, and the balance against MetaCLIP's own definition."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cpt.corpus.digests import digest
from cpt.corpus.ratings.concepts import Concept, Matcher, Matches, balance_facts

pytest.importorskip("ahocorasick_rs")

HEART = Concept("heart", ("heart", "cor"))
ATTACK = Concept("heart attack", ("heart attack", "Heart-attack", "MI"))
TERMS = [HEART, ATTACK, Concept("C++", ("C++",)), Concept("fever", ("fever",)), Concept("Cor", ("COR",))]
TEXTS = [
    "A heart attack, not a heart-attack of the heart.",
    "HEART\n attack",
    "the hearts of sweetheart decor",
    "Mi cor in C++ and c",
    "feverish; fever_fever",
    "",
]


def found(text: str, **given: bool) -> list[str]:
    matcher = Matcher(TERMS, **{"whole_words": True, "ignore_case": True, **given})
    return [TERMS[number].name for number in matcher.find(text)]


def test_whole_words_are_found_whatever_is_between_them() -> None:
    assert [found(text) for text in TEXTS] == [
        ["heart", "heart attack"],
        ["heart", "heart attack"],
        [],
        ["heart", "heart attack", "C++", "Cor"],
        ["fever"],
        [],
    ]


def plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def test_every_text_against_a_search_for_every_form() -> None:
    for text in TEXTS:
        expected = [
            term.name
            for term in TERMS
            if any(re.search(rf"(?<!\S){plain(form)}(?!\S)", plain(text)) for form in term.forms)
        ]
        assert found(text) == expected


def test_capital_letters_and_parts_of_words() -> None:
    assert found("HEART attack MI", ignore_case=False) == ["heart attack"]
    assert found("the hearts", whole_words=False) == ["heart"]
    assert found("C++ is no C", whole_words=False) == ["C++"]
    assert found("心筋梗塞です", whole_words=False) == []


def test_terms_of_scripts_without_spaces() -> None:
    terms = [Concept("infarct", ("梗塞",))]
    parts, words = (Matcher(terms, whole_words=whole, ignore_case=True) for whole in (False, True))
    assert parts.find("心筋梗塞です") == [0]
    assert words.find("心筋梗塞です") == []


def test_terms_without_a_letter_are_none() -> None:
    with pytest.raises(ValueError, match="no term has a letter"):
        Matcher([Concept("-", ("-", "..."))], whole_words=True, ignore_case=True)


def made(memberships: list[list[int]], seed: int = 17, terms: int = 4) -> Matches:
    matches = Matches([Concept(f"term {n}", ()) for n in range(terms)], seed)
    for number, concepts in enumerate(memberships):
        matches.add(digest(f"document {number}"), concepts)
    return matches


def test_counts_and_documents_without_terms() -> None:
    matches = made([[0, 1], [], [1], [1, 3]])
    assert matches.counts().tolist() == [1, 3, 0, 1]
    assert matches.counts(np.array([True, True, False, True])).tolist() == [1, 2, 0, 1]
    assert np.isinf(matches.smallest_caps()).tolist() == [False, True, False, False]
    assert np.isinf(made([[], []]).smallest_caps()).all()
    assert made([]).smallest_caps().tolist() == []


def test_a_cap_that_no_term_exceeds_keeps_every_document_with_a_term() -> None:
    caps = made([[0, 1], [1], [1], [0, 1]]).smallest_caps()
    assert np.all(caps < 4)
    assert np.all(caps[[0, 3]] < 2)  # the rarer of their terms is in two documents


@pytest.mark.parametrize("cap", [1, 3, 8])
def test_documents_stay_with_the_probability_of_the_paper(cap: int) -> None:
    """A document stays unless none of its terms samples it: 1 - Π (1 - min(1, cap / count))."""
    memberships = [[0]] * 10 + [[0, 1]] * 3 + [[1, 2]]
    counts = np.array([13, 4, 1])
    stayed, draws = np.zeros(len(memberships)), 3_000
    for seed in range(draws):
        stayed += made(memberships, seed, terms=3).smallest_caps() < cap
    chance = np.minimum(1, cap / counts)
    expected = np.array([1 - np.prod([1 - chance[term] for term in terms]) for terms in memberships])
    error = np.sqrt(expected * (1 - expected) / draws)
    assert np.all(np.abs(stayed / draws - expected) <= 4.5 * error + 1e-12)


def test_a_larger_cap_keeps_all_that_a_smaller_one_keeps_and_other_terms_change_nothing() -> None:
    memberships = [[0, 2] if number % 3 else [0] for number in range(40)]
    caps = made(memberships).smallest_caps()
    assert np.array_equal(caps, made(memberships, terms=9).smallest_caps())
    sizes = [int((caps < cap).sum()) for cap in (1, 5, 20, 41)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 40


def test_facts_of_the_balance() -> None:
    concepts = [Concept(f"term {n}", ()) for n in range(4)]
    matches = made([[0, 1], [0], [0], [1]])
    facts = balance_facts(concepts, matches, np.array([True, True, False, False]), cap=2)
    assert facts == {
        "terms": 4,
        "found": 2,
        "cap": 2.0,
        "head": {"terms": 1, "before": 3, "after": 2},
        "tail": {"terms": 1, "before": 2, "after": 1},
        "largest": [
            {"term": "term 0", "before": 3, "after": 2},
            {"term": "term 1", "before": 2, "after": 1},
        ],
    }
