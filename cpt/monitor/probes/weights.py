"""Relative updates of the weights, layer by layer (Guo et al. 2024, arXiv 2406.14833, section 3)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from cpt.models.weights import load_tensor, stored_tensors
from cpt.monitor.probe_work import WEIGHTS
from cpt.monitor.probes.base import ModelView
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When

_LAYER = re.compile(r"\.(\d+)\.")
_ENDS = 5
"""Number of bottom and top layers that are compared; half of all layers in a model with fewer than ten."""


@dataclass(frozen=True)
class WeightsProbe:
    """Relative update ‖w - w₀‖ / ‖w₀‖ of all weights together, and of every layer.

    The starting weights are read tensor by tensor from their files: no second model is in memory.

    Attributes:
        start: Model folder that training started from.
        embeddings, head: Names of the input and the output embedding; the same if they are tied.
    """

    start: Path
    embeddings: str
    head: str
    when: When
    name: str = "weights"
    _norms: dict[str, float] = field(default_factory=dict)

    kind: ClassVar[Kind] = "weights"
    unit: ClassVar[Unit] = "relative update"
    divisible: ClassVar[bool] = False
    items: ClassVar[int | None] = None
    relative: ClassVar[bool] = False
    work: ClassVar[float] = WEIGHTS

    @torch.no_grad()
    def read(self, view: ModelView, share: float) -> Items:  # noqa: ARG002
        """Return one item: the norm of the whole update, and of the starting weights."""
        stored = stored_tensors(self.start)
        squares: dict[str, np.ndarray] = {}  # of update and start, by part
        for name, tensor in stored.items():
            now = view.weights.get(name)
            update = 0.0
            if now is not None or name not in self._norms:
                before = load_tensor(tensor, name)
                before = before.to(device=None if now is None else now.device, dtype=torch.float32)
                self._norms[name] = _squared(before)
                if now is not None:
                    update = _squared(_whole(now) - before)
            part = self._part(name)
            squares[part] = squares.get(part, np.zeros(2)) + np.array([update, self._norms[name]])
        updates = {part: _ratio(*both) for part, both in squares.items()}
        total = np.sqrt(sum(squares.values()))
        layers = {int(part): update for part, update in updates.items() if part.isdigit()}
        detail = {
            "layers": [{"layer": layer, "update": layers[layer]} for layer in sorted(layers)],
            "embeddings": updates.get("embeddings"),
            "head": updates.get("embeddings" if self.head == self.embeddings else "head"),
            "bottom_top": bottom_to_top([layers[layer] for layer in sorted(layers)]),
        }
        return Items(total[:1], total[1:], detail)

    def _part(self, name: str) -> str:
        if name in (self.embeddings, self.head):
            return "embeddings" if name == self.embeddings else "head"
        layer = _LAYER.search(name)
        return layer[1] if layer else "rest"


def bottom_to_top(updates: list[float]) -> float | None:
    """Return the mean update of the bottom layers over that of the top layers; None if those did not move."""
    count = min(_ENDS, len(updates) // 2)
    top = sum(updates[len(updates) - count :])
    return sum(updates[:count]) / top if top else None


def _whole(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as a whole, gathered by all processes together if it is sharded."""
    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return whole.detach().float()


def _squared(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor)) ** 2


def _ratio(update: float, start: float) -> float:
    return math.sqrt(update / start) if start else 0.0
