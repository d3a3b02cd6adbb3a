"""What a probe is."""

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
class Subject:
    """The model that is probed.

    Attributes:
        weights: what trains, by the names that the model has for it, as precise as it is held; a divided
            weight must be asked for by all processes together.
    """

    module: PackedLanguageModel
    weights: Mapping[str, torch.Tensor]


class Probe(Protocol):
    """Something of a model that is measured again and again."""

    @property
    def name(self) -> str:
        """What its readings are called."""

    @property
    def kind(self) -> Kind: ...

    @property
    def unit(self) -> Unit: ...

    @property
    def when(self) -> When: ...

    @property
    def work(self) -> float:
        """Training tokens that a reading of the whole sample costs (`cpt.monitor.budget`)."""

    @property
    def divisible(self) -> bool:
        """Return True if a part of the sample can be read, with less work."""

    @property
    def relative(self) -> bool:
        """Whether its value is the rise of what it reads since its first reading."""

    def read(self, subject: Subject, share: float) -> Items:
        """Measure the first items of the sample.

        All processes of a run call it together, and it leaves the model as it is.

        Args:
            share: of the items, more than 0.
        """


def part(count: int, share: float) -> int:
    """Return the items that a share of `count` pays for, at least two: one has no standard error."""
    return min(count, max(2, math.floor(count * share + 1e-6)))
