"""Sizes of samples: with the stated error a test finds what it is sized for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpt.monitor.noise import bound, detectable_rise, found_from, needed_error, needed_items

ROUNDS = 4_000


@pytest.mark.parametrize("documents", [4, 8, 50])
def test_a_rise_of_the_limit_and_a_third_is_found_with_95_percent(documents: int) -> None:
    limit = 0.02
    error = needed_error(limit, documents)
    assert detectable_rise(limit, error, documents) == pytest.approx(limit * 4 / 3)
    drawn = np.random.default_rng(3).normal(limit * 4 / 3, error * math.sqrt(documents), (ROUNDS, documents))
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(documents)
    found = drawn.mean(axis=1) - bound(documents) * errors > limit
    assert found.mean() == pytest.approx(0.95, abs=0.012)


def test_many_documents_need_the_error_of_a_normal_test() -> None:
    assert needed_error(0.03) == pytest.approx(0.01 / (2 * 1.6449), rel=1e-4)
    assert needed_error(0.03, 10_000) == pytest.approx(needed_error(0.03), rel=1e-3)
    assert needed_error(0.03, 8) < needed_error(0.03, 20) < needed_error(0.03)


def test_one_document_finds_nothing() -> None:
    assert (bound(1), found_from(1)) == (math.inf, math.inf)
    assert (needed_error(0.02, 1), detectable_rise(0.02, 0.001, 1)) == (0.0, math.inf)


def test_the_needed_documents_have_the_needed_error() -> None:
    documents = needed_items(0.02, 0.0075, 8)
    assert documents is not None
    error = 0.0075 * math.sqrt(8 / documents)
    assert error <= needed_error(0.02, documents) < 0.0075 * math.sqrt(8 / (documents - 1))
    assert needed_items(0.02, 1e-6, 8) == 2
    for limit, unknown, items in [(0.0, 0.01, 8), (0.02, math.nan, 8), (0.02, 0.01, 1)]:
        assert needed_items(limit, unknown, items) is None
