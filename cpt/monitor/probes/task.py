"""Accuracy on a task of an evaluation suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cpt.models.packed_model import PackedLanguageModel
from cpt.monitor.budget import FORWARD
from cpt.monitor.probes.base import Subject, part
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When


@dataclass(frozen=True)
class TaskProbe:
    """Share of right answers; an item is a question.

    Attributes:
        items: how many there are.
        grade: gives the first so many items' scores, 0 or 1 each, in an order of which every beginning is a
            fair sample.
        tokens: that go through the model for all items; 0 where no budget asks for it.
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
        """The tokens of all items go forward."""
        return FORWARD * self.tokens

    def read(self, subject: Subject, share: float) -> Items:
        """Each question's score."""
        scores = np.asarray(self.grade(subject.module, part(self.items, share)), float)
        return Items(scores, np.ones_like(scores))
