"""Accuracy on a task of an evaluation suite, or the likelihood of its right choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from cpt.models.packed_model import PackedLanguageModel
from cpt.monitor.probe_work import FORWARD
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.reading import Items, Kind, TaskMeasure, Unit
from cpt.monitor.schedule import When


class Answers(NamedTuple):
    """A model's answers to the first questions of a task, [questions] each.

    Attributes:
        accuracy: 1 where the answer is right, else 0.
        p_gold: Probability of the right choice among all choices, per byte; empty if the task is no choice by
            likelihood.
    """

    accuracy: Sequence[float]
    p_gold: Sequence[float] = ()


@dataclass(frozen=True)
class TaskProbe:
    """Share of right answers, or mean probability of the right choice; an item is a question.

    Attributes:
        items: Number of questions.
        grade: Function that returns the answers to the first questions, in an order of which every prefix is
            a fair sample.
        tokens: Number of tokens that the model reads for all questions; 0 if there is no probe share.
        measure: Measure that is read; `detail` has the other one.
        weights: Weights of the questions in p_gold, [items], with which every label counts the same; empty:
            equal ones.
        source: Name of the data set, and its part.
        data: Origin of the questions: "hub", or the data set with the checksum of its local files.
    """

    name: str
    items: int
    grade: Callable[[PackedLanguageModel, int], Answers]
    when: When
    tokens: int = 0
    measure: TaskMeasure = "accuracy"
    weights: Sequence[float] = ()
    source: str | None = None
    data: str = ""

    kind: ClassVar[Kind] = "task"
    divisible: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    @property
    def unit(self) -> Unit:
        """Return the unit of the measure that is read."""
        return self.measure

    @property
    def work(self) -> float:
        """Return the work of a forward pass over all questions."""
        return FORWARD * self.tokens

    def read(self, view: ModelView, share: float) -> Items:
        """Return the score of every question."""
        answers = self.grade(view.module, part(self.items, share))
        accuracy = np.asarray(answers.accuracy, float)
        scores: dict[TaskMeasure, Items] = {"accuracy": Items(accuracy, np.ones_like(accuracy))}
        if len(answers.p_gold):
            likelihood = np.asarray(answers.p_gold, float)
            weights = np.asarray(self.weights[: len(likelihood)] or np.ones_like(likelihood), float)
            scores["p_gold"] = Items(weights * likelihood, weights)
        chosen = scores.pop(self.measure)
        others: dict[str, float] = {measure: items.value for measure, items in scores.items()}
        return Items(chosen.numerators, chosen.denominators, others or None)
