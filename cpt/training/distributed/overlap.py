"""Sum gradients over processes that have the whole model, while the backward pass still computes others.

The idea is DistributedDataParallel's (Li et al. 2020, arXiv 2006.15704, section 3.2.3): gradients are summed
in buckets, in a fixed order that all processes share, as soon as those of a bucket are there. Here it is done
in the last backward pass of a step only, and on the float32 gradients of all of its micro batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from cpt.training.distributed.collectives import ProcessGroup, buckets


class OverlappedSum:
    """The sums of one step's gradients after another.

    A process calls `begin` before its last backward pass, if it has one, and `finish` after it. Gradients
    that it does not have count as zero. A weight of which no process has a gradient has none afterwards, as
    in a single process: an optimizer would still decay it.
    """

    def __init__(
        self,
        processes: ProcessGroup,
        weights: Mapping[str, nn.Parameter],
        parameters: Mapping[str, nn.Parameter],
        accumulate: Callable[[str], None],
    ) -> None:
        """Register hooks on the model's parameters, if there are other processes.

        Args:
            processes: Process group of the run.
            weights: Weights whose gradients are summed, by name.
            parameters: Parameters of the model, by name, of which those of the weights get gradients.
            accumulate: Function that adds a parameter's gradient to its weight's, by name.
        """
        self._processes, self._accumulate = processes, accumulate
        self._weights, self._parameters = weights, parameters
        self._open = False
        self._missing: list[set[str]] = []
        self._waits: list[Callable[[], None]] = []
        self._absent: set[str] = set()
        if processes.count == 1:
            return
        names = {id(weight): name for name, weight in weights.items()}
        # a backward pass reaches the weights that were used last first
        self._buckets = [[names[id(w)] for w in each] for each in buckets(reversed(list(weights.values())))]
        for number, bucket in enumerate(self._buckets):
            for name in bucket:
                hook = partial(self._arrived, number, name)
                if parameters[name].requires_grad:
                    parameters[name].register_post_accumulate_grad_hook(hook)

    def begin(self) -> None:
        """Sum gradients from now on as they arrive."""
        if self._processes.count > 1:
            self._open = True
            self._missing = [
                {name for name in bucket if self._parameters[name].requires_grad} for bucket in self._buckets
            ]

    def finish(self) -> None:
        """Sum the gradients that are left, and wait for all sums."""
        if self._processes.count == 1:
            return
        self._open = False
        for bucket in self._buckets[len(self._waits) :]:
            self._start(bucket)
        present = [float(name not in self._absent) for name in self._weights]
        counts = torch.tensor(present, device=self._processes.device)
        self._waits.append(self._processes.start_sum([counts]))
        for wait in self._waits:
            wait()
        if self._absent:  # only then the host waits for a device
            for name, count in zip(self._weights, counts.tolist(), strict=True):
                if not count:
                    self._weights[name].grad = None
        self._waits, self._absent = [], set()

    def _arrived(self, number: int, name: str, _: torch.Tensor) -> None:
        if not self._open:
            return
        if name not in self._missing[number]:
            raise RuntimeError(f"{name} got a second gradient in one backward pass, after its sum had begun")
        self._accumulate(name)
        self._missing[number].remove(name)
        # all processes start them in the same order, though gradients may arrive in another
        while len(self._waits) < len(self._buckets) and not self._missing[len(self._waits)]:
            self._start(self._buckets[len(self._waits)])

    def _start(self, bucket: list[str]) -> None:
        gradients = []
        for name in bucket:
            weight = self._weights[name]
            if not self._parameters[name].requires_grad:  # in no process
                continue
            if weight.grad is None:
                self._absent.add(name)
                weight.grad = torch.zeros_like(weight, dtype=torch.float32)
            gradients.append(weight.grad)
        self._waits.append(self._processes.start_sum(gradients))
