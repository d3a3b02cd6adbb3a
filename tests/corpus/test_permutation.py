"""The stateless permutation: a bijection, key-dependent, well spread, and stable for ever."""

from __future__ import annotations

import numpy as np
import pytest

from cpt.corpus.stream import Permutation


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
