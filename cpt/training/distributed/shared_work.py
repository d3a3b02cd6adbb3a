"""Compute each of many results in one of the processes that all need them, and send it to the others.

Replicas hold the same gradients, so each of them would compute the same. Results are sorted by cost and dealt
to the processes in turn: the costs of two processes differ by the largest one at most, and the assignment
follows from the costs alone. The others receive the bits that its owner computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from cpt.training.distributed.collectives import ProcessGroup

BUFFER_BYTES = 64 * 2**20
"""Bytes of results that a process sends at once, unless a single result is larger."""


@dataclass(frozen=True)
class Work:
    """The size of a computation and of its result.

    Attributes:
        cost: Number of floating-point operations, up to a common factor.
        shape, dtype: Shape and data type of the result.
    """

    cost: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def elements(self) -> int:
        """Return the number of elements of the result."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Return the bytes of the result."""
        return self.elements * self.dtype.itemsize


def computed_once(
    works: Sequence[Work], compute: Callable[[int], torch.Tensor], processes: ProcessGroup | None
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the number of every computation with its result; all processes must call this together.

    A result must be used before the next one is taken: the memory of results is used again.

    Args:
        works: Computations with results of one data type, the same in every process.
        compute: Function that computes the result of a number.
        processes: Processes that share the work; None if this one does all of it.
    """
    if processes is None or processes.count == 1:
        for number in range(len(works)):
            yield number, compute(number)
        return
    turns = list(_turns(works, processes.count))
    if not turns:
        return
    largest = max(sum(works[n].elements for n in numbers) for turn in turns for numbers in turn)
    own, received = torch.empty(2, largest, dtype=works[0].dtype, device=processes.device)
    for turn in turns:
        for number, part in _parts(works, turn[processes.rank], own):
            part.copy_(compute(number))
        for owner, numbers in enumerate(turn):
            results = own if owner == processes.rank else received
            if numbers:
                processes.send(results[: sum(works[n].elements for n in numbers)], owner)
            yield from _parts(works, numbers, results)


def buffer_bytes(works: Sequence[Work], count: int) -> int:
    """Return the bytes of memory for results, a process's own and received ones, in `computed_once`.

    Args:
        works: Computations.
        count: Number of processes.
    """
    if count == 1:
        return 0
    sent = (sum(works[n].bytes for n in numbers) for turn in _turns(works, count) for numbers in turn)
    return 2 * max(sent, default=0)


def _turns(works: Sequence[Work], count: int) -> Iterator[list[list[int]]]:
    """Yield what each of some processes computes before they exchange results: lists of numbers, by rank."""
    order = sorted(range(len(works)), key=lambda number: -works[number].cost)
    turn: list[list[int]] = [[] for _ in range(count)]
    held = [0] * count
    for first in range(0, len(order), count):
        dealt = order[first : first + count]
        if any(size and size + works[n].bytes > BUFFER_BYTES for size, n in zip(held, dealt, strict=False)):
            yield turn
            turn, held = [[] for _ in range(count)], [0] * count
        for owner, number in enumerate(dealt):
            turn[owner].append(number)
            held[owner] += works[number].bytes
    if order:
        yield turn


def _parts(
    works: Sequence[Work], numbers: Sequence[int], memory: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the number of every result with its part of the memory."""
    start = 0
    for number in numbers:
        work = works[number]
        yield number, memory[start : start + work.elements].view(work.shape)
        start += work.elements
