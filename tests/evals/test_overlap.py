"""Word n-grams that items share with a text, against a search of strings."""

import unicodedata

import numpy as np
import pytest

from evals import overlap
from evals.overlap import find_overlaps, ngram_length, words

FILLER = [f"w{number}" for number in range(400)]


def sentence(generator: np.random.Generator, length: int) -> list[str]:
    return [FILLER[index] for index in generator.integers(0, len(FILLER), length)]


def test_words_have_no_case_and_no_punctuation() -> None:
    assert words("The Heart's “beat”, §4.2: (90\u00a0bpm)!") == [
        "the",
        "heart",
        "s",
        "beat",
        "4",
        "2",
        "90",
        "bpm",
    ]
    assert words("ﬁbrillation STRASSE Straße") == ["fibrillation", "strasse", "strasse"]
    assert words("heart_rate") == ["heart", "rate"]
    assert words("") == []


def test_scripts_without_spaces_give_characters_and_marks_stay_in_their_words() -> None:
    assert words("心臓 is heart") == ["心", "臓", "is", "heart"]
    assert words("हृदय की धड़कन।") == unicodedata.normalize("NFKC", "हृदय की धड़कन").split()


@pytest.mark.parametrize(
    ("lengths", "expected"), [([3] * 50, 8), ([40] * 50, 13), ([10] * 50, 10), ([9, *[30] * 99], 13)]
)
def test_n_is_the_fifth_percentile_between_8_and_13(lengths: list[int], expected: int) -> None:
    assert ngram_length(lengths) == expected


def test_overlaps_equal_a_search_of_strings() -> None:
    generator = np.random.default_rng(3)
    text = [sentence(generator, int(generator.integers(5, 200))) for _ in range(60)]
    items = {}
    for number in range(80):
        borrowed = text[number % 60][: int(generator.integers(0, 30))]
        items[str(number)] = " ".join(sentence(generator, 6) + borrowed + sentence(generator, 6))
    n = 9
    found = find_overlaps(
        {"task": items}, (("s", str(i), " ".join(each)) for i, each in enumerate(text)), n=n
    )["task"]
    padded = [f" {' '.join(each)} " for each in text]
    for id, item in items.items():
        split = item.split()
        covered = np.zeros(len(split), dtype=bool)
        for place in range(len(split) - n + 1):
            gram = f" {' '.join(split[place : place + n])} "
            if any(gram in document for document in padded):
                covered[place : place + n] = True
        each = found.items[id]
        assert (each.words, each.covered) == (len(split), covered.sum())
        assert each.verdict == ("dirty" if covered.any() else "clean")
        assert each.longest == max(len(run) for run in "".join("x" if c else " " for c in covered).split(" "))
    verdicts = [each.verdict for each in found.items.values()]
    assert 0 < verdicts.count("dirty") < len(verdicts)


def test_an_ngram_does_not_reach_over_two_documents() -> None:
    item = " ".join(FILLER[:20])
    halves = [("s", "a", " ".join(FILLER[:10])), ("s", "b", " ".join(FILLER[10:20]))]
    assert find_overlaps({"t": {"i": item}}, halves)["t"].items["i"].verdict == "clean"
    whole = [("s", "a", item.upper().replace(" ", ", "))]
    assert find_overlaps({"t": {"i": item}}, whole)["t"].items["i"].covered == 20


def test_where_it_was_found_by_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_WORDS_AT_ONCE", 10)
    item = " ".join(FILLER[:20])
    text = [
        ("domain", "0", "other words"),
        ("domain", "1", item),
        ("replay", "2", item),
        ("domain", "3", item),
    ]
    seen: list[int] = []
    found = find_overlaps({"t": {"i": item}}, text, on_progress=seen.append)["t"].items["i"]
    assert found.found_in == {"domain": "1", "replay": "2"}
    assert seen[-1] == 4


def test_what_most_items_share_is_the_prompt() -> None:
    prompt = " ".join(FILLER[:20])
    items = {str(i): f"{prompt} {' '.join(FILLER[20 + 20 * i : 40 + 20 * i])}" for i in range(5)}
    text = [("s", "a", prompt), ("s", "b", " ".join(FILLER[20:40]))]
    found = find_overlaps({"t": items}, text)["t"].items
    assert [each.verdict for each in found.values()] == ["dirty", "clean", "clean", "clean", "clean"]
    assert found["0"].covered == 20
    alone = find_overlaps({"t": {"0": items["0"]}}, text)["t"].items
    assert alone["0"].covered == 40


def test_an_item_shorter_than_n_cannot_be_judged() -> None:
    found = find_overlaps({"t": {"short": "one two three"}}, [("s", "a", "one two three four")])["t"]
    assert (found.n, found.items["short"].verdict) == (8, "short")
    assert (
        find_overlaps({"t": {"short": "one two three"}}, [("s", "a", "one two three four")], n=3)["t"]
        .items["short"]
        .verdict
        == "dirty"
    )


def test_tasks_have_their_own_n() -> None:
    items = {"long": {"a": " ".join(FILLER[:30])}, "brief": {"a": " ".join(FILLER[:9])}}
    found = find_overlaps(items, [("s", "x", " ".join(FILLER[:9]))])
    assert (found["long"].n, found["brief"].n) == (13, 9)
    assert found["long"].items["a"].verdict == "clean"
    assert found["brief"].items["a"].verdict == "dirty"


def test_no_items_and_no_text() -> None:
    assert find_overlaps({"t": {}}, []) == {}
    assert find_overlaps({"t": {"a": " ".join(FILLER[:30])}}, [])["t"].items["a"].verdict == "clean"
