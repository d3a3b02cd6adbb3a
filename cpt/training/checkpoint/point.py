"""A point of the run whose weights are kept, to be gone back to: a part of every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cpt.training.checkpoint.parts import Part, PartState
from cpt.training.state import State


class SavedState:
    """A copy of some parts at one moment, with what had been trained on by then.

    It lies where the weights lie, divided among the processes as they are; after a restart every process has
    all of it, in host memory. While nothing is kept it is empty.
    """

    _DATA = "point"

    def __init__(self, parts: Mapping[str, Part], state: State) -> None:
        """Keep nothing yet.

        Args:
            parts: what a point consists of.
            state: the run's.
        """
        self._parts, self._run = parts, state
        self._tensors: dict[str, torch.Tensor] = {}
        self._data: dict[str, Any] = {}

    @property
    def step(self) -> int | None:
        """Global batches gone through when the point was kept."""
        return self._data.get("step")

    @property
    def score(self) -> float | None:
        """What the point was worth."""
        return self._data.get("score")

    def take(self, score: float | None = None) -> None:
        """Keep the present moment instead of what was kept, whose memory is free before more is taken."""
        self._tensors, self._data = {}, {}
        tensors: dict[str, torch.Tensor] = {}
        data: dict[str, dict[str, Any]] = {}
        for name, part in self._parts.items():
            data[name] = {}
            for key, value in part.state().items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{name}/{key}"] = value.detach().clone()
                else:
                    data[name][key] = value
        self._tensors = tensors
        self._data = {"step": self._run.step, "score": score, "parts": data, "run": self._run.trained()}

    def go_back(self) -> int:
        """Put the parts back as they were, count what was trained since as dropped, and return the step."""
        step = self.step
        if step is None:
            raise AssertionError("no point was kept")
        for name, part in self._parts.items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): t for k, t in self._tensors.items() if k.startswith(prefix)}
            part.restore({**self._data["parts"][name], **own})
        self._run.forget_since(self._data["run"], step)
        return step

    def state(self) -> PartState:
        return {**self._tensors, self._DATA: self._data}

    def restore(self, saved: PartState) -> None:
        self._data = dict(saved.get(self._DATA, {}))
        self._tensors = {
            key: value.clone() for key, value in saved.items() if isinstance(value, torch.Tensor)
        }
