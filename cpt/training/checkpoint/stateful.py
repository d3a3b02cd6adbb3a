"""Define the objects with state that a run needs to continue: weights, optimizer, random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from cpt.errors import StageFailed
from cpt.training.checkpoint.stored import load_like
from cpt.training.state import State

StateDict = Mapping[str, Any]
"""Tensors and JSON data by key. The tensors may be those that training changes next."""


class Stateful(Protocol):
    """An object of a run that must be as it was when the run continues."""

    def state_dict(self) -> StateDict:
        """Return the present state."""

    def load_state_dict(self, saved: StateDict) -> None:
        """Restore a state by copying its tensors; none of them is kept.

        Args:
            saved: state; its tensors may be `StoredTensor`s, to be read with `load_like` or `clone`.

        Raises:
            StageFailed: the state is another model's or another run's.
        """


class WeightState:
    """The state of the trained weights."""

    def __init__(self, weights: Mapping[str, torch.Tensor], sync_to_model: Callable[[], None]) -> None:
        """Refer to some weights.

        Args:
            sync_to_model: function that copies changed weights to the model.
        """
        self._weights, self._sync_to_model = weights, sync_to_model

    def state_dict(self) -> StateDict:
        return {name: weight.detach() for name, weight in self._weights.items()}

    @torch.no_grad()
    def load_state_dict(self, saved: StateDict) -> None:
        _refuse_other_model(self._weights, saved)
        for name, weight in self._weights.items():
            weight.copy_(load_like(saved[name], weight))
        self._sync_to_model()


def _refuse_other_model(weights: Mapping[str, torch.Tensor], saved: StateDict) -> None:
    other = sorted(weights.keys() ^ saved.keys())
    other += [name for name, w in weights.items() if name in saved and saved[name].shape != w.shape]
    if other:
        raise StageFailed(
            f"the checkpoint holds the weights of another model: {', '.join(other[:3])}",
            hint="Start in an empty work folder, or put the model back that the run began with.",
        )


class OptimizerState:
    """The state of an optimizer: all tensors that it has for each weight."""

    _HOST = "kept on the host"

    def __init__(self, optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]) -> None:
        self._optimizer, self._weights = optimizer, weights

    def state_dict(self) -> StateDict:
        found = {
            f"{name}/{key}": value
            for name, weight in self._weights.items()
            for key, value in self._optimizer.state.get(weight, {}).items()
        }
        if odd := [key for key, value in found.items() if not isinstance(value, torch.Tensor)]:
            raise TypeError(
                f"an optimizer's state must be tensors, to be kept in checkpoints: {odd[0]} is not"
            )
        host = [key for key, value in found.items() if value.device != self._of(key).device]
        return {**found, self._HOST: host}

    def load_state_dict(self, saved: StateDict) -> None:
        self._optimizer.state.clear()
        host = set(saved[self._HOST])
        for key, value in saved.items():
            if key != self._HOST:
                weight = self._of(key)
                self._optimizer.state[weight][key.rpartition("/")[2]] = (
                    value.clone() if key in host else load_like(value, weight)
                )

    def _of(self, key: str) -> nn.Parameter:
        return self._weights[key.rpartition("/")[0]]


class RandomNumbers:
    """The state of the global generators: Python's, NumPy's, PyTorch's, and one for each GPU."""

    def state_dict(self) -> StateDict:
        kind, words, *rest = np.random.get_state()
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "python": random.getstate(),
            "numpy": [kind, np.asarray(words).tolist(), *rest],
            "torch": torch.get_rng_state(),
            **{f"cuda/{number}": state for number, state in enumerate(gpus)},
        }

    def load_state_dict(self, saved: StateDict) -> None:
        version, words, gauss = saved["python"]
        random.setstate((version, tuple(words), gauss))
        kind, numbers, *rest = saved["numpy"]
        np.random.set_state((kind, np.asarray(numbers, dtype=np.uint32), *rest))
        # as copies: PyTorch reads beyond a state that is not at the beginning of its memory
        torch.set_rng_state(saved["torch"].clone())
        for number in range(torch.cuda.device_count()):
            if (state := saved.get(f"cuda/{number}")) is not None:
                torch.cuda.set_rng_state(state.clone(), number)


class SavedState:
    """A copy of the state of some objects after some step, to go back to; it is empty until it is taken.

    Its tensors are where the originals are, sharded as they are.
    """

    _DATA = "point"

    def __init__(self, stateful: Mapping[str, Stateful], state: State) -> None:
        """Refer to the originals.

        Args:
            stateful: objects whose state is copied, by name.
            state: state of the loop, from which the copy has the batches that were trained on.
        """
        self._stateful, self._run = stateful, state
        self._tensors: dict[str, torch.Tensor] = {}
        self._data: dict[str, Any] = {}

    @property
    def step(self) -> int | None:
        """Number of global batches that were consumed when the copy was taken; None: it is empty."""
        return self._data.get("step")

    @property
    def score(self) -> float | None:
        """Score that the copy was taken with."""
        return self._data.get("score")

    def take(self, score: float | None = None) -> None:
        """Copy the present state; the memory of the copy before is free first."""
        parts = self._copy()
        self._data = {"step": self._run.step, "score": score, "parts": parts, "run": self._run.trained()}

    def go_back(self) -> int:
        """Restore the copy, count later batches as dropped, and return its step."""
        step = self.step
        if step is None:
            raise AssertionError("no state was saved")
        self._restore(self._tensors)
        self._run.forget_since(self._data["run"], step)
        return step

    def state_dict(self) -> StateDict:
        return {**self._tensors, self._DATA: self._data}

    def load_state_dict(self, saved: StateDict) -> None:
        """Restore the copy by way of the originals, which know how it is sharded; restore those after it."""
        self._tensors, self._data = {}, dict(saved.get(self._DATA, {}))
        if self._data:
            self._restore({key: value for key, value in saved.items() if key != self._DATA})
            self._copy()

    def _copy(self) -> dict[str, dict[str, Any]]:
        """Copy the tensors of the originals, and return their JSON data."""
        self._tensors = {}
        tensors: dict[str, torch.Tensor] = {}
        data: dict[str, dict[str, Any]] = {}
        for name, each in self._stateful.items():
            data[name] = {}
            for key, value in each.state_dict().items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{name}/{key}"] = value.detach().clone()
                else:
                    data[name][key] = value
        self._tensors = tensors
        return data

    def _restore(self, tensors: StateDict) -> None:
        for name, each in self._stateful.items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            each.load_state_dict({**self._data["parts"][name], **own})


class FixedSettings:
    """The settings that a run must continue with."""

    def __init__(self, values: Mapping[str, Any], hint: str) -> None:
        """Keep the settings of this run.

        Args:
            values: JSON values by dotted names.
            hint: what to do about others.
        """
        self._values, self._hint = values, hint

    def state_dict(self) -> Mapping[str, Any]:
        return self._values

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Change nothing, but raise if the run began with other settings."""
        keys = dict.fromkeys([*saved, *self._values])
        now = self._values
        changed = [
            f"{key} was {saved.get(key, 'not set')} and is {now.get(key, 'not set')}"
            for key in keys
            if saved.get(key) != now.get(key)
        ]
        if changed:
            raise StageFailed(
                f"a run cannot go on with other settings than it began with: {'; '.join(changed)}",
                hint=self._hint,
            )
