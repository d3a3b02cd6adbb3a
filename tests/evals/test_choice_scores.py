"""Answers to multiple-choice items through lm-eval, by a model whose likelihoods are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.model import LM
from scipy.special import softmax

from evals.harness import ChoiceScores, score_choices
from evals.multiple_choice import Item, spaced_item


class Fixed(LM):
    """A model whose log-likelihood of a choice is a function of question and choice."""

    def __init__(self, nats: Callable[[str, str], float]) -> None:
        super().__init__()
        self._nats = nats

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        return [(self._nats(*request.args), False) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Any]) -> list[str]:
        raise NotImplementedError


ITEMS = [
    spaced_item("The heart of the", ["matter", "kidney", "élan"], 2),
    spaced_item("Nine", ["kidneys", "muscle"], 0),
]


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., ChoiceScores]:
    def score(nats: Callable[[str, str], float], items: list[Item]) -> ChoiceScores:
        return score_choices(Fixed(nats), {"mine": items}, tmp_path / "work")["mine"]

    return score


def test_equal_likelihoods_per_byte_give_one_in_so_many(scored: Callable[..., ChoiceScores]) -> None:
    found = scored(lambda _, choice: -0.5 * len(choice.encode()), ITEMS)
    assert found.p_gold == pytest.approx([1 / 3, 1 / 2])


def test_likelihoods_are_those_of_bytes(scored: Callable[..., ChoiceScores]) -> None:
    nats = {" matter": -3.0, " kidney": -4.0, " élan": -2.0, " kidneys": -5.0, " muscle": -1.0}
    found = scored(lambda _, choice: nats[choice], ITEMS)
    expected = softmax([-3 / 7, -4 / 7, -2 / 6])[2], softmax([-5 / 8, -1 / 7])[0]
    assert found.p_gold == pytest.approx(expected)
    assert found.acc.tolist() == found.acc_norm.tolist() == [1, 0]


def test_labels_count_the_same(scored: Callable[..., ChoiceScores]) -> None:
    """A habit of saying yes to everything is worth one in two, though three of four items are yes."""
    items = [spaced_item(f"Is {n} even?", ["yes", "no"], int(n == 3)) for n in range(4)]
    found = scored(lambda _, choice: -0.1 if choice == " yes" else -9.0, items)
    assert found.acc_norm.mean() == 0.75
    assert found.p_gold.mean() == pytest.approx(0.5)


def test_no_tasks_need_no_model(tmp_path: Path) -> None:
    assert score_choices(None, {}, tmp_path / "work") == {}
    assert not (tmp_path / "work").exists()


def test_choices_are_parted_from_the_question_once() -> None:
    assert spaced_item("Q:", ["a", " b"], 1) == Item("Q:", (" a", " b"), 1)
    assert spaced_item("Q:\n", ["a", "b"], 0) == Item("Q:\n", ("a", "b"), 0)


def test_scores_keep_the_order_of_the_items(scored: Callable[..., ChoiceScores]) -> None:
    items = [spaced_item(f"Item {n}", ["a", "b"], 0) for n in range(12)]
    found = scored(lambda question, choice: -float(question.split()[1]) * (choice == " b"), items)
    expected = [softmax([0, -n / 2])[0] for n in range(12)]
    assert found.p_gold == pytest.approx(np.array(expected))
