"""The stateless permutation: a bijection, key-dependent, well spread, and stable for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cpt.corpus.permutation import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4097])
def test_it_is_a_bijection(size: int) -> None:
    permutation = Permutation(size, 17, "domain", 0)
    values = permutation(np.arange(size))
    assert sorted(values.tolist()) == list(range(size))


def test_single_elements_equal_the_whole() -> None:
    permutation = Permutation(1000, 3)
    whole = permutation(np.arange(1000))
    assert [int(permutation(np.array([at]))[0]) for at in range(0, 1000, 37)] == whole[::37].tolist()


def test_keys_give_unrelated_orders() -> None:
    positions = np.arange(500)
    orders = [Permutation(500, seed, epoch)(positions) for seed in range(4) for epoch in range(4)]
    for number, order in enumerate(orders):
        for other in orders[:number]:
            assert (order == other).sum() < 10
            assert abs(np.corrcoef(order, other)[0, 1]) < 0.2
        assert abs(np.corrcoef(order, positions)[0, 1]) < 0.2


def test_every_element_is_equally_likely_everywhere() -> None:
    size, keys = 7, 2100
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, key)(np.arange(size))] += 1
    expected = keys / size
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 80  # 36 degrees of freedom: 0.9999 quantile is 77


def test_the_order_never_changes() -> None:
    """A changed order would silently change every run: this is a golden value."""
    assert Permutation(10, 17, "domain", 0)(np.arange(10)).tolist() == [5, 3, 0, 9, 2, 4, 7, 8, 1, 6]


@pytest.mark.parametrize(
    ("size", "known"),
    [
        (1, "af5570f5a1810b7a"),
        (2, "9d34149fbd1fe777"),
        (5, "fbdb31504098c018"),
        (64, "5edbfdcc283655f5"),
        (1000, "f4cb90da70d51edf"),
        (70_000, "5b474e7a86baf9a2"),
    ],
)
def test_whole_orders_never_change(size: int, known: str) -> None:
    """They were recorded when every round was computed, before there were tables."""
    order = Permutation(size, 17, "domain", 3)(np.arange(size))
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == known


@pytest.mark.parametrize(
    ("size", "known"),
    [
        (195_000_000, [145_098_456, 7_318_385, 67_310_213, 107_000_550]),
        (2**33 + 5, [4_723_803_388, 5_679_845_922, 7_914_415_931, 4_343_883_779]),
    ],
)
def test_orders_of_vast_sources_never_change(size: int, known: list[int]) -> None:
    positions = np.array([0, 1, 97_000_000, size - 1])
    permutation = Permutation(size, 17, "domain", 3)
    assert permutation(positions).tolist() == known
    assert permutation.positions(np.array(known)).tolist() == positions.tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 64, 65, 1000, 4097])
def test_positions_are_the_inverse(size: int) -> None:
    permutation, every = Permutation(size, 3, "x"), np.arange(size)
    assert np.array_equal(permutation.positions(permutation(every)), every)
    assert np.array_equal(permutation(permutation.positions(every)), every)
