"""An average of weights as a part of a run: kept step by step, shown to probes, and the result in the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.distributed.tensor import DTensor

from cpt.training.checkpoint.parts import PartState
from cpt.training.distributed.tensors import shard_like

Weights = Mapping[str, torch.Tensor]
"""Float32 tensors by name; each may be divided among the processes."""


class AverageOf(ABC):
    """The average of the weights that the optimizer moves. A part of every checkpoint."""

    def __init__(self, weights: Weights, publish: Callable[[], None]) -> None:
        """Average some weights, none of which has moved yet.

        Args:
            publish: lets the model see them after they were changed.
        """
        self._weights, self._publish = weights, publish

    @abstractmethod
    def stepped(self, step: int) -> None:
        """Take up the weights after a step that moved them; 1 is the first."""

    @abstractmethod
    def _mean(self) -> Weights | None:
        """The average now; None before there is one."""

    @abstractmethod
    def state(self) -> PartState:
        """See `Part`."""

    @abstractmethod
    def restore(self, saved: PartState) -> None:
        """See `Part`."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the model has the average as its weights; before there is one, its own."""
        mine = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self.put_in_place()
        try:
            yield
        finally:
            self._write(mine)

    def put_in_place(self) -> None:
        """Make the average the model's weights, in the end."""
        mean = self._mean()
        if mean is not None:
            self._write(mean)

    @torch.no_grad()
    def _write(self, values: Weights) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])
        self._publish()


class MovingAverage(AverageOf):
    """See `Ema`."""

    def __init__(self, weights: Weights, publish: Callable[[], None], decay: float) -> None:
        """See `AverageOf`."""
        super().__init__(weights, publish)
        self._decay, self._count = decay, 0
        self._means = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def stepped(self, step: int) -> None:  # noqa: ARG002
        """See `AverageOf`."""
        self._count += 1
        share = (1 - self._decay) / (1 - self._decay**self._count)
        for name, weight in self._weights.items():
            self._means[name].lerp_(weight, share)

    def _mean(self) -> Weights | None:
        return self._means if self._count else None

    def state(self) -> PartState:
        """See `Part`."""
        return {"steps": self._count, **self._means}

    @torch.no_grad()
    def restore(self, saved: PartState) -> None:
        """See `Part`."""
        self._count = saved["steps"]
        for name, mean in self._means.items():
            mean.copy_(shard_like(saved[name], mean))


class LatestAverage(AverageOf):
    """See `Lawa`."""

    def __init__(self, weights: Weights, publish: Callable[[], None], every: int, last: int) -> None:
        """See `AverageOf`."""
        super().__init__(weights, publish)
        self._every, self._last = every, last
        self._taken: dict[int, Weights] = {}

    def stepped(self, step: int) -> None:
        """See `AverageOf`."""
        if step % self._every == 0:
            taken = {name: _set_aside(weight.detach()) for name, weight in self._weights.items()}
            self._taken = dict([*self._taken.items(), (step, taken)][-self._last :])

    def _mean(self) -> Weights | None:
        if not self._taken:
            return None
        return {name: self._mean_of(name) for name in self._weights}

    def _mean_of(self, name: str) -> torch.Tensor:
        first, *others = (taken[name] for taken in self._taken.values())
        total = first.clone()
        for other in others:
            total += other
        return total / len(self._taken)

    def state(self) -> PartState:
        """See `Part`."""
        return {
            "steps": list(self._taken),
            **{
                f"{step}/{name}": weight
                for step, taken in self._taken.items()
                for name, weight in taken.items()
            },
        }

    def restore(self, saved: PartState) -> None:
        """See `Part`."""
        self._taken = {
            step: {
                name: _set_aside(_as_divided(saved[f"{step}/{name}"], weight))
                for name, weight in self._weights.items()
            }
            for step in saved["steps"]
        }


def _set_aside(weight: torch.Tensor) -> torch.Tensor:
    """A copy in main memory; of a divided weight where it is."""
    return weight.clone() if isinstance(weight, DTensor) else weight.to("cpu", copy=True)


def _as_divided(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A whole tensor, divided if `weight` is."""
    return shard_like(tensor, weight) if isinstance(weight, DTensor) else tensor
