"""Ratios over items, their errors, and paired changes, against simulation and the closed form."""

import math

import numpy as np
import pytest

from cpt.models.bits_per_byte import Scores
from cpt.monitor.reading import Items, Reading


def items(generator: np.random.Generator, count: int = 200) -> Items:
    bytes_ = generator.integers(50, 500, count).astype(float)
    return Items(bytes_ * generator.normal(1.0, 0.2, count), bytes_)


def test_value_and_error_are_those_of_bits_per_byte() -> None:
    found = items(np.random.default_rng(0))
    scores = Scores(found.numerators * math.log(2), found.denominators)
    assert found.value == pytest.approx(scores.bits_per_byte)
    assert found.standard_error == pytest.approx(scores.standard_error)


def test_one_item_has_no_error() -> None:
    one = Items(np.array([1.0]), np.array([2.0]))
    assert one.value == 0.5
    assert math.isnan(one.standard_error)
    assert math.isnan(one.rise_over(one)[1])


def test_a_change_is_taken_on_the_same_items_and_its_error_is_paired() -> None:
    before = items(np.random.default_rng(1))
    now = Items(before.numerators + 0.02 * before.denominators, before.denominators)
    rise, error = now.first(50).rise_over(before)
    assert rise == pytest.approx(0.02)
    assert error == pytest.approx(0.0, abs=1e-12)
    assert before.rise_over(before) == (0.0, 0.0)


def test_the_error_of_accuracy_changes_is_that_of_paired_differences() -> None:
    generator = np.random.default_rng(2)
    one = np.ones(100)
    before, now = (Items(generator.integers(0, 2, 100).astype(float), one) for _ in range(2))
    rise, error = now.rise_over(before)
    differences = now.numerators - before.numerators
    assert rise == pytest.approx(differences.mean())
    assert error == pytest.approx(differences.std(ddof=1) / 10)


def test_errors_are_what_repeated_sampling_shows() -> None:
    """Documents are drawn 2,000 times: the spread of values and changes is what one reading says of it."""
    values, rises, said, said_rises = [], [], [], []
    for seed in range(2000):
        generator = np.random.default_rng(seed)
        before = items(generator)
        noise = before.denominators * generator.normal(0.01, 0.05, len(before.denominators))
        now = Items(before.numerators + noise, before.denominators)
        rise, error = now.rise_over(before)
        values.append(before.value)
        rises.append(rise)
        said.append(before.standard_error)
        said_rises.append(error)
    assert np.mean(said) == pytest.approx(np.std(values), rel=0.05)
    assert np.mean(said_rises) == pytest.approx(np.std(rises), rel=0.05)
    assert np.mean(said_rises) < 0.3 * np.mean(said)


def test_readings_and_items_survive_json_even_without_errors() -> None:
    reading = Reading(1, 10, "domain", "text", "bits per byte", 1.0, math.nan, 0.0, math.nan, 0.5, 0.1)
    data = reading.as_json()
    assert (data["standard_error"], data["rise_error"], data["value"]) == (None, None, 1.0)
    again = Reading.from_json(data)
    assert math.isnan(again.standard_error)
    assert again.as_json() == data
    found = items(np.random.default_rng(3))
    assert Items.from_json(found.as_json()).value == found.value
