"""The protocol of a probe, and the view of a model that it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from cpt.models.packed_model import PackedLanguageModel
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When


@dataclass(frozen=True)
class ModelView:
    """The model that probes read.

    Attributes:
        module: Packed model.
        weights: Weights that train, by the model's names, in their highest precision; all processes must read
            a sharded weight together.
    """

    module: PackedLanguageModel
    weights: Mapping[str, torch.Tensor]


class Probe(Protocol):
    """A measurement of a model that is repeated during training."""

    @property
    def name(self) -> str:
        """Return the name of its readings."""

    @property
    def kind(self) -> Kind: ...

    @property
    def unit(self) -> Unit: ...

    @property
    def when(self) -> When: ...

    @property
    def work(self) -> float:
        """Return the training tokens that a reading of the whole sample costs (`cpt.monitor.probe_work`)."""

    @property
    def divisible(self) -> bool:
        """Return True if a part of the sample can be read, with less work."""

    @property
    def items(self) -> int | None:
        """Return the number of documents (questions, samples) of the whole sample; None if it has none."""

    @property
    def relative(self) -> bool:
        """Return True if its value is the rise since its first reading."""

    def read(self, view: ModelView, share: float) -> Items:
        """Measure the first items of the sample.

        All processes of a run call it together. It does not change the model.

        Args:
            view: Model to measure.
            share: Share of the items, more than 0.
        """


def part(count: int, share: float) -> int:
    """Return the number of items in a share of `count`, at least two: one has no standard error."""
    return min(count, max(2, math.floor(count * share + 1e-6)))
