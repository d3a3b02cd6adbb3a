"""Pairs of tokens of a BPE, against what the tokenizers library makes of the two together."""

import random

import numpy as np
import pytest
from tokenizers import models

from tokenizer_tools.canonical.merge_pairs import MergePairs, ranked


def _random_merges(rng: random.Random, *, rising: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges; unless `rising`, a merge's parts may be made by merges of higher rank."""
    tokens = list("abc"[: rng.randint(1, 3)])
    merges: dict[tuple[str, str], None] = {}
    for _ in range(rng.randint(1, 60)):
        pair = rng.choice(tokens), rng.choice(tokens)
        if len("".join(pair)) <= 6:
            merges[pair] = None
            tokens = list(dict.fromkeys([*tokens, "".join(pair)]))
    ordered = list(merges)
    if not rising:
        rng.shuffle(ordered)
    return tokens, ordered


@pytest.mark.parametrize("rising", [True, False])
def test_pairs_are_those_that_the_library_leaves(rising: bool) -> None:
    rng = random.Random(7)
    joined = 0
    for _ in range(60):
        tokens, merges = _random_merges(rng, rising=rising)
        model = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
        pairs = MergePairs(tokens, ranked(merges))
        for index, token in enumerate(tokens):
            alone = [each.value for each in model.tokenize(token)] == [token]
            assert pairs.reachable[index] == alone
            expected = [
                [t.value for t in model.tokenize(token + other)] == [token, other] for other in tokens
            ]
            assert pairs.after(index).tolist() == expected, (merges, token)
            joined += expected.count(False)
    assert joined > 1000


def test_a_restriction_numbers_tokens_anew() -> None:
    tokens, merges = _random_merges(random.Random(3), rising=False)
    pairs = MergePairs(tokens, ranked(merges))
    kept = np.arange(len(tokens)) % 3 != 1
    some = pairs.restricted(kept)
    for number, index in enumerate(np.flatnonzero(kept)):
        np.testing.assert_array_equal(some.after(number), pairs.after(index)[kept])
    np.testing.assert_array_equal(some.reachable, pairs.reachable[kept])
