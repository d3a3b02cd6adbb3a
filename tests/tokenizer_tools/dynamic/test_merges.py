"""Dynamic merges against brute force over the whole text."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from tokenizer_tools.dynamic.merges import MergedTokens, Merges, find_merges, replaced
from tokenizer_tools.dynamic.words import Word

OWN: list[bytes | None] = [bytes([letter]) for letter in b"abcd"]


def tokens() -> MergedTokens:
    return MergedTokens(OWN, len(OWN))


def by_brute_force(words: list[Word], share: float, known: MergedTokens) -> tuple[list, list[Word]]:
    """Look through the whole text before every merge."""
    steps, seen, wanted = [], {}, len([t for word in words for t in word]) * (1 - share)
    while len([t for word in words for t in word]) > wanted:
        counts: Counter = Counter()
        for word in words:
            for pair in pairwise(word):
                seen.setdefault(pair, len(seen))
                counts[pair] += 1
        if not counts:
            break
        pair = min(counts, key=lambda each: (-counts[each], seen[each]))
        steps.append((*pair, known.join(*pair)))
        words = [replaced(word, steps[-1]) for word in words]
    return steps, words


def random_words(seed: int, count: int = 40) -> list[Word]:
    chance = random.Random(seed)
    return [tuple(chance.choices(range(4), (6, 3, 2, 1), k=chance.randint(1, 7))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 1.0])
def test_merges_are_those_of_brute_force(seed: int, share: float) -> None:
    words = random_words(seed)
    slow, fast = tokens(), tokens()
    steps, expected = by_brute_force(words, share, slow)
    merges = find_merges(words, share, fast)
    assert list(merges.steps) == steps
    assert fast.surfaces == slow.surfaces
    assert merges.apply(words) == expected


@pytest.mark.parametrize("seed", range(10))
def test_merges_of_one_text_in_another_are_done_in_turn(seed: int) -> None:
    merges = find_merges(random_words(seed), 0.6, tokens())
    other = random_words(seed + 100)
    expected = other
    for step in merges.steps:
        expected = [replaced(word, step) for word in expected]
    assert merges.apply(other) == expected


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_bytes_stay_and_words_hold(share: float) -> None:
    words, known = random_words(3), tokens()
    merged = find_merges(words, share, known).apply(words)
    assert len(merged) == len(words)
    for before, after in zip(words, merged, strict=True):
        assert b"".join(map(known.surface, after)) == b"".join(map(known.surface, before))
    if share == 1:
        assert {len(word) for word in merged} == {1}
    if share == 0:
        assert (merged, known.surfaces) == (words, [])


def test_the_share_is_reached_and_the_last_merge_was_needed() -> None:
    words = random_words(5, 200)
    total = sum(map(len, words))
    merges = find_merges(words, 0.25, tokens())
    assert sum(map(len, merges.apply(words))) <= 0.75 * total
    assert sum(map(len, Merges(merges.steps[:-1]).apply(words))) > 0.75 * total


def test_of_equal_pairs_the_first_is_merged() -> None:
    assert find_merges([(2, 3), (0, 1), (0, 1), (2, 3)], 0.1, tokens()).steps == ((2, 3, 4),)


def test_merged_tokens_have_ids_of_their_own_by_their_bytes() -> None:
    known = MergedTokens([*OWN, None, b"ab"], 10)
    assert known.join(0, 1) == 10  # not the token of the vocabulary with the same bytes
    assert known.join(10, 2) == 11
    assert known.join(0, known.join(1, 2)) == 11
    assert known.surfaces == [b"ab", b"abc", b"bc"]
    assert known.surface(4) == b""
    with pytest.raises(ValueError, match="id 3 is one of the tokenizer's 4"):
        MergedTokens(OWN, 3)
