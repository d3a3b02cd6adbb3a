"""What a run's state consists of: parts that can tell their state and take it back."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from cpt.errors import StageFailed
from cpt.training.distributed.tensors import shard_like

PartState = Mapping[str, Any]
"""By key (no two alike) tensors, which may be those that training goes on to change, and JSON data."""


class Part(Protocol):
    """Something of a run that must be as it was when the run goes on."""

    def state(self) -> PartState:
        """The state now."""

    def restore(self, saved: PartState) -> None:
        """Become what `saved` says; tensors in it are not to be kept, only copied from.

        Raises:
            StageFailed: the state is another model's or another run's.
        """


class Weights:
    """The trained weights."""

    def __init__(self, weights: Mapping[str, torch.Tensor], publish: Callable[[], None]) -> None:
        """Keep some weights.

        Args:
            publish: lets the model see them after they were changed.
        """
        self._weights, self._publish = weights, publish

    def state(self) -> PartState:
        return {name: weight.detach() for name, weight in self._weights.items()}

    @torch.no_grad()
    def restore(self, saved: PartState) -> None:
        _refuse_other_model(self._weights, saved)
        for name, weight in self._weights.items():
            weight.copy_(shard_like(saved[name], weight))
        self._publish()


def _refuse_other_model(weights: Mapping[str, torch.Tensor], saved: PartState) -> None:
    other = sorted(weights.keys() ^ saved.keys())
    other += [name for name, w in weights.items() if name in saved and saved[name].shape != w.shape]
    if other:
        raise StageFailed(
            f"the checkpoint holds the weights of another model: {', '.join(other[:3])}",
            hint="Start in an empty work folder, or put the model back that the run began with.",
        )


class OptimizerState:
    """The optimizer's state: whatever tensors it keeps of each weight."""

    _HOST = "kept on the host"

    def __init__(self, optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]) -> None:
        self._optimizer, self._weights = optimizer, weights

    def state(self) -> PartState:
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

    def restore(self, saved: PartState) -> None:
        self._optimizer.state.clear()
        host = set(saved[self._HOST])
        for key, value in saved.items():
            if key != self._HOST:
                weight = self._of(key)
                copied = value.clone()
                self._optimizer.state[weight][key.rpartition("/")[2]] = (
                    copied if key in host else shard_like(copied, weight)
                )

    def _of(self, key: str) -> nn.Parameter:
        return self._weights[key.rpartition("/")[0]]


class RandomNumbers:
    """The global generators: Python's, NumPy's, PyTorch's, and one for each GPU."""

    def state(self) -> PartState:
        kind, words, *rest = np.random.get_state()
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "python": random.getstate(),
            "numpy": [kind, np.asarray(words).tolist(), *rest],
            "torch": torch.get_rng_state(),
            **{f"cuda/{number}": state for number, state in enumerate(gpus)},
        }

    def restore(self, saved: PartState) -> None:
        version, words, gauss = saved["python"]
        random.setstate((version, tuple(words), gauss))
        kind, numbers, *rest = saved["numpy"]
        np.random.set_state((kind, np.asarray(numbers, dtype=np.uint32), *rest))
        # as copies: PyTorch reads beyond the state if it does not lie at the beginning of its memory
        torch.set_rng_state(saved["torch"].clone())
        for number in range(torch.cuda.device_count()):
            if (state := saved.get(f"cuda/{number}")) is not None:
                torch.cuda.set_rng_state(state.clone(), number)
