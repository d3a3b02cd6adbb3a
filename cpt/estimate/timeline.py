"""Blocks of memory over time: which were held at once, and when it was most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

Part = Literal["weights", "gradients", "optimizer", "activations", "logits", "checkpoint", "gates", "other"]
"""weights: in working precision and float32 masters. gradients: of both. activations: what the backward pass
needs, and what operations need while they run. logits: tensors with a column per token of the vocabulary.
checkpoint: copies of weights and optimizer state, to be written or rolled back to. gates: those that gates
may go back to."""

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass
class Block:
    """A block of memory, from its allocation to its release (never, if None); both count events."""

    bytes: int
    part: Part
    born: int
    died: int | None = None


@dataclass
class Timeline:
    """Every block that was allocated, in order, and the moments in which it happened.

    Attributes:
        moments: name -> first and last event of each stretch of that name.
    """

    blocks: list[Block] = field(default_factory=list)
    moments: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _events: int = 0

    def allocate(self, size: int, part: Part) -> Block:
        """Enter a block of `size` bytes."""
        block = Block(size, part, self._next())
        self.blocks.append(block)
        return block

    def release(self, block: Block) -> None:
        """Note that a block is free again."""
        if block.died is None:
            block.died = self._next()

    @contextmanager
    def moment(self, name: str) -> Iterator[None]:
        """What is held and what happens inside belongs to the moment `name`."""
        first = self._events
        yield
        self.moments.setdefault(name, []).append((first, self._events))

    def held(self, event: int) -> list[Block]:
        """The blocks that were held just after an event."""
        return [b for b in self.blocks if b.born <= event and (b.died is None or b.died > event)]

    def peak(self, moment: str) -> list[Block]:
        """The blocks that were held when a moment held most."""
        totals = self._totals()
        stretches = (range(first, last + 1) for first, last in self.moments[moment])
        return self.held(max((event for stretch in stretches for event in stretch), key=totals.__getitem__))

    def _totals(self) -> list[int]:
        """Bytes held after every event; before the first, none."""
        changes = [0] * (self._events + 1)
        for block in self.blocks:
            changes[block.born] += block.bytes
            if block.died is not None:
                changes[block.died] -= block.bytes
        total, totals = 0, []
        for change in changes:
            total += change
            totals.append(total)
        return totals

    def _next(self) -> int:
        self._events += 1
        return self._events


def by_part(blocks: list[Block]) -> dict[Part, int]:
    """Bytes of blocks, summed over each part; every part is named."""
    sums: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for block in blocks:
        sums[block.part] += block.bytes
    return sums
