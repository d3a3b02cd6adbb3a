"""Accuracy on a task of an evaluation suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cpt.models.packed_model import PackedLanguageModel
from cpt.monitor.budget import FORWARD
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When


@dataclass(frozen=True)
class TaskProbe:
    """Share of right answers; an item is a question.

    Attributes:
        items: Number of questions.
        grade: Function that returns the scores of the first questions, 0 or 1 each, in an order of which
            every prefix is a fair sample.
        tokens: Number of tokens that the model reads for all questions; 0 if there is no probe budget.
    """

    name: str
    items: int
    grade: Callable[[PackedLanguageModel, int], Sequence[float]]
    when: When
    tokens: int = 0

    kind: ClassVar[Kind] = "task"
    unit: ClassVar[Unit] = "accuracy"
    divisible: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    @property
    def work(self) -> float:
        """Return the work of a forward pass over all questions."""
        return FORWARD * self.tokens

    def read(self, view: ModelView, share: float) -> Items:
        """Return the score of every question."""
        scores = np.asarray(self.grade(view.module, part(self.items, share)), float)
        return Items(scores, np.ones_like(scores))
