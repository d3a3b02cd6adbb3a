"""Items found in documents, against a search of strings, and the characters that they cover."""

from __future__ import annotations

import numpy as np
import pytest

from evals.item_search import ItemSearch, Match, _word_spans
from evals.overlap import words

FILLER = [f"w{number}" for number in range(400)]


def sentence(generator: np.random.Generator, length: int) -> list[str]:
    return [FILLER[index] for index in generator.integers(0, len(FILLER), length)]


def test_matches_equal_a_search_of_strings() -> None:
    generator = np.random.default_rng(3)
    n = 9
    items = {str(number): " ".join(sentence(generator, 25)) for number in range(20)}
    documents = []
    for number in range(30):
        first, length = generator.integers(0, 10), generator.integers(0, 25)
        borrowed = items[str(number % 20)].split()[first : first + length]
        documents.append(" ".join(sentence(generator, 15) + borrowed + sentence(generator, 15)))
    search = ItemSearch({"task": items}, n)
    dirty = []
    for place, document in enumerate(documents):
        expected = {}
        for id, item in items.items():
            split, longest = item.split(), 0
            for begin in range(len(split)):
                for end in range(begin + n, len(split) + 1):
                    if f" {' '.join(split[begin:end])} " in f" {document} ":
                        longest = max(longest, end - begin)
            if longest:
                expected[id] = longest
        stretches, matches = search.matches(document)
        assert {match.item: match.words for match in matches} == expected
        assert bool(stretches) == bool(expected)
        for match in matches:
            assert f" {document[match.begin : match.end]} " in f" {items[match.item]} "
        if expected:
            dirty.append(place)
    assert search.contaminated(documents) == dirty
    assert 10 < len(dirty) < 30


def test_stretches_cover_the_characters_of_the_words() -> None:
    search = ItemSearch({"t": {"1": "one two three four five six"}}, 5)
    text = "Zero — “One, two;   THREE (four) five six!” seven"
    stretches, matches = search.matches(text)
    assert [text[begin:end] for begin, end in stretches] == ["“One, two;   THREE (four) five six!”"]
    assert matches == [Match("t", "1", 6, *stretches[0])]


def test_two_items_of_one_passage_are_both_named() -> None:
    passage = " ".join(FILLER[:30])
    search = ItemSearch({"t": {"a": f"{passage} yes", "b": f"{passage} no"}, "u": {"c": passage}}, 13)
    _, matches = search.matches(f"before {passage} no after")
    assert {(match.task, match.item): match.words for match in matches} == {
        ("t", "a"): 30,
        ("t", "b"): 31,
        ("u", "c"): 30,
    }


def test_words_that_most_items_share_belong_to_the_prompt() -> None:
    prompt = " ".join(FILLER[:13])
    items = {str(n): f"{prompt} {' '.join(f'{word}q{n}' for word in FILLER[20:40])}" for n in range(6)}
    assert ItemSearch({"t": items}, 13).contaminated([prompt]) == []
    assert ItemSearch({"t": items}, 13, without_prompt=frozenset("t")).contaminated([prompt]) == [0]
    assert ItemSearch({"t": items}, 13).contaminated([items["3"], "other", items["5"]]) == [0, 2]


def test_short_items_are_counted() -> None:
    search = ItemSearch({"t": {"a": "too short", "b": " ".join(FILLER[:13])}, "none": {}}, 13)
    assert (search.items, search.short) == ({"t": 2, "none": 0}, {"t": 1, "none": 0})
    assert ItemSearch({}, 13).contaminated(["any text"]) == []
    assert ItemSearch({"t": {"a": "too short"}}, 13).matches("too short") == ([], [])
    assert search.contaminated([]) == []


def test_an_ngram_does_not_reach_over_two_documents() -> None:
    search = ItemSearch({"t": {"a": " ".join(FILLER[:13])}}, 13)
    assert search.contaminated([" ".join(FILLER[:6]), " ".join(FILLER[6:13])]) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_word_has_a_span(seed: int) -> None:
    generator = np.random.default_rng(seed)
    alphabet = list("abZ9 .,-_\n\t\u00a0\u2003é\u0301ﬁßİ心臓ไทย\u0130\x1c\u200b\u00a8½हृ")
    for length in (0, 1, 5, 300):
        text = "".join(generator.choice(alphabet, length))
        begins, ends = _word_spans(text)
        assert len(begins) == len(words(text))
        for word, begin, end in zip(words(text), begins, ends, strict=True):
            assert word in words(text[begin:end])
    long = "heart beat " * 20_000  # several blocks
    begins, ends = _word_spans(long)
    assert {long[begin:end] for begin, end in zip(begins, ends, strict=True)} == {"heart", "beat"}
