"""DSIR: log weights against sums by hand, zero where target and raw agree, Gumbel top-k's frequencies."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from sklearn.utils import murmurhash3_32

from cpt.corpus.digests import digest
from cpt.corpus.ratings import DSIRSettings
from cpt.corpus.ratings.dsir import HashedNGrams, gumbel, log_ratio

RAW = ["The heart beats. The heart!", "Rent is due; rent is paid", "heart", "", "?!"]
TARGET = ["A heart beats", "the heart of the matter"]


def buckets(text: str, ngrams: int, number: int) -> Counter[int]:
    """Count the hashed n-grams of a text, one by one."""
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    found = [
        " ".join(words[at : at + length])
        for length in range(1, ngrams + 1)
        for at in range(len(words) - length + 1)
    ]
    return Counter(abs(murmurhash3_32(gram, seed=0)) % number for gram in found)


def by_hand(text: str, settings: DSIRSettings) -> float:
    both = []
    for texts in (TARGET, RAW):
        total = sum((buckets(each, settings.ngrams, settings.buckets) for each in texts), Counter())
        both.append({bucket: count / total.total() for bucket, count in total.items()})
    target, raw = both
    own = buckets(text, settings.ngrams, settings.buckets)
    weight = sum(
        count * (math.log(target.get(bucket, 0) + 1e-8) - math.log(raw.get(bucket, 0) + 1e-8))
        for bucket, count in own.items()
    )
    return weight / max(own.total(), 1) if settings.per_ngram else weight


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"ngrams": 1},
        {"ngrams": 3},
        {"buckets": 7},
        {"per_ngram": True},
        {"per_ngram": True, "buckets": 2},
    ],
)
def test_log_weights_are_those_by_hand(given: dict[str, int]) -> None:
    settings = DSIRSettings(**given)  # type: ignore[arg-type]
    grams = HashedNGrams(settings)
    weigh = grams.weigher(grams.total(TARGET, at_once=1), grams.total(RAW, at_once=2))
    expected = [by_hand(text, settings) for text in RAW]
    assert weigh(RAW) == pytest.approx(expected, abs=1e-9)
    assert np.concatenate([weigh([text]) for text in RAW]) == pytest.approx(expected, abs=1e-9)


def test_the_same_text_on_both_sides_weighs_nothing() -> None:
    grams = HashedNGrams(DSIRSettings())
    counts = grams.total(RAW)
    assert np.array_equal(grams.weigher(counts, counts)(RAW), np.zeros(len(RAW)))
    assert grams.weigher(3 * counts, counts)(RAW) == pytest.approx(np.zeros(len(RAW)), abs=1e-9)
    assert not log_ratio(np.zeros(5), np.zeros(5)).any()


def test_gumbel_top_k_draws_without_replacement_in_proportion_to_the_weights() -> None:
    weights, take, draws = np.array([0.5, 0.25, 0.15, 0.1]), 2, 20_000
    keys = [digest(str(number)) for number in range(4)]
    drawn = np.zeros(4)
    for seed in range(draws):
        drawn[np.argsort(-(np.log(weights) + gumbel(keys, seed)))[:take]] += 1
    expected = np.zeros(4)
    for order in permutations(range(4), take):
        left, probability = 1.0, 1.0
        for at in order:
            probability *= weights[at] / left
            left -= weights[at]
        expected[list(order)] += probability
    error = np.sqrt(expected * (1 - expected) / draws)
    assert np.all(np.abs(drawn / draws - expected) < 4.5 * error)


def test_noise_is_each_documents_own_and_has_gumbels_moments() -> None:
    keys = [digest(str(number)) for number in range(5_000)]
    noise = gumbel(keys, 17)
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.08)
    assert noise.var() == pytest.approx(math.pi**2 / 6, rel=0.1)
    assert gumbel(keys[7:8], 17)[0] == noise[7]
    assert gumbel(keys[:3], 18).tolist() != noise[:3].tolist()
