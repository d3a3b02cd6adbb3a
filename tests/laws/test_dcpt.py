"""The law's formula, its derivatives, and where it does not fall."""

from __future__ import annotations

import numpy as np
import pytest
from planted import DOMAIN, GENERAL, SIZED

from cpt.laws.dcpt import Box, Points, gradient, loss, names_of, not_falling, slopes

ALL = {**DOMAIN, **SIZED, "F": 0.3, "mu": 0.7, "w1": 0.4, "w2": 0.6}
AT = Points(
    parameters=np.array([1e2, 3e3, 4e4]),
    tokens=np.array([1e1, 2e3, 5e4]),
    share=np.array([0.05, 0.5, 1.0]),
    first_loss=np.array([0.8, 1.3, 2.0]),
    decline=np.array([0.2, 0.05, 1.1]),
)


def test_the_formula_is_that_of_the_paper() -> None:
    n, d, r, k1, k2 = 3e3, 2e3, 0.5, 1.3, 0.05
    by_hand = 0.6 + 40 / n**0.3 + 6 * r**0.5 / d**0.3 + 0.5 / (r + 0.2) ** 0.8
    assert loss({**DOMAIN, **SIZED}, Points(n, d, r)) == pytest.approx(by_hand)
    assert loss(ALL, AT)[1] == pytest.approx(by_hand + 0.3 / (0.4 / k1 + 0.6 * k2) ** 0.7)
    assert loss(DOMAIN, Points(n, d, r)) == pytest.approx(by_hand - 40 / n**0.3)
    assert set(names_of(size=True, domains=True)) == set(ALL)
    assert len(names_of(size=True, domains=False)) == 9


def test_the_gradient_is_that_of_finite_differences() -> None:
    found = gradient(ALL, AT)
    assert found.keys() == ALL.keys()
    for name, value in ALL.items():
        step = 1e-6 * value
        low, high = (loss({**ALL, name: value + side * step}, AT) for side in (-1, 1))
        np.testing.assert_allclose(found[name], (high - low) / (2 * step), rtol=1e-6, atol=1e-10)


def test_the_slopes_are_those_of_finite_differences() -> None:
    found = slopes(ALL, AT)
    for variable, slope in found.items():
        value = getattr(AT, variable)
        step = 1e-6 * value
        low, high = (loss(ALL, Points(**{**vars(AT), variable: value + side * step})) for side in (-1, 1))
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-6)
    assert "parameters" not in slopes(DOMAIN, AT)


def test_without_any_share_tokens_have_no_effect_and_the_gradient_is_finite() -> None:
    here = Points(np.array([1e3]), np.array([1e6]), np.array([0.0]))
    assert loss(DOMAIN, here) == pytest.approx(0.6 + 0.5 / 0.2**0.8)
    found = gradient(DOMAIN, here)
    assert all(np.isfinite(value).all() for value in found.values())
    assert found["B"] == found["eta"] == found["beta"] == 0


def test_draws_broadcast_against_points() -> None:
    drawn = {name: np.array([[value], [2 * value]]) for name, value in DOMAIN.items()}
    table = loss(drawn, AT)
    assert table.shape == (2, 3)
    np.testing.assert_allclose(table[0], loss(DOMAIN, AT))


def test_laws_that_do_not_fall_are_named() -> None:
    box = Box((1e8, 1e9), (1e6, 2e7), (0.1, 1.0))
    assert not_falling({**DOMAIN, **SIZED}, box) == {}
    assert not_falling(GENERAL, Box((1e8, 1e8), (1e6, 2e7), (0.0, 0.9))) == {}
    rising = not_falling({**DOMAIN, "C": 0.01}, box)
    assert list(rising) == ["share"]
    at = rising["share"]
    assert slopes({**DOMAIN, "C": 0.01}, at)["share"] > 0
    assert list(not_falling({**DOMAIN, "B": 1e-12}, box)) == ["tokens"]
    assert list(not_falling({**DOMAIN, **SIZED, "A": 1e-9}, box)) == ["parameters"]
