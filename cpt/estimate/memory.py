"""Peak memory by part: the most that any moment of a run holds.

Which micro batch fits, so that the global batch, and so what is learnt, stays the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cpt.estimate.allocations import Part, by_part
from cpt.estimate.devices import Device, heap_holes
from cpt.estimate.job import Job
from cpt.estimate.simulate import Simulation, simulate


@dataclass(frozen=True)
class Memory:
    """Bytes by part in every moment of a run.

    Attributes:
        moments: "load": weights are read and put into working precision. "probe": held-out text is read.
            "step": forward and backward pass of one micro batch. "update": weights are rounded by chance.
            "save": the model is float32 again.
        host: on GPUs the most that main memory holds: of all processes, as if in one machine.
    """

    moments: Mapping[str, Mapping[Part, int]]
    host: int | None = None

    @property
    def moment(self) -> str:
        """The moment that takes most."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Mapping[Part, int]:
        """Bytes by part in that moment."""
        return self.moments[self.moment]

    @property
    def peak(self) -> int:
        """Bytes in that moment."""
        return sum(self.parts.values())


def memory_of(job: Job, device: Device) -> Memory:
    """Predict the memory of a run on a device.

    Raises:
        UsageError: A micro batch is too large to be simulated.
    """
    return memory_in(simulate(job, device.hardware), device, job.processes)


def memory_in(simulation: Simulation, device: Device, processes: int = 1) -> Memory:
    """The memory of a rehearsed run: what it allocates, and what process and device take besides.

    On a CPU that is the process with its libraries, as measured now, and what the C library keeps of freed
    memory; on a GPU it is the context of CUDA and its libraries.
    """
    moments: dict[str, Mapping[Part, int]] = {}
    for name in simulation.timeline.moments:
        held = simulation.timeline.peak(name)
        parts = by_part(held)
        around = simulation.process_bytes + heap_holes(held)
        parts["other"] += device.context_bytes if device.is_gpu else around
        moments[name] = parts
    host = simulation.host.peak + processes * simulation.process_bytes
    return Memory(moments, host if device.is_gpu else None)


MARGIN = 0.10
"""Share of the memory that is left free: the prediction is good to a tenth."""


@dataclass(frozen=True)
class Fit:
    """A micro batch that fits, the micro batches of a step, and the peak in bytes."""

    micro_batch: int
    accumulation: int
    peak: int


def fits(peak: int, limit: int) -> bool:
    """Whether a predicted peak fits with some room to spare."""
    return peak * (1 + MARGIN) <= limit


def largest_fit(job: Job, limit: int, peak_of: Callable[[Job], int]) -> Fit | None:
    """The fewest micro batches per step that fit; None if not even one sequence at a time does.

    Args:
        limit: bytes of memory.
        peak_of: predicts the peak of a job; grows with the micro batch, save that a single micro batch
            per step needs no sum of gradients.
    """
    found: dict[int, Fit] = {}

    def too_large(size: int) -> bool:
        tried = job.with_micro_batch(size)
        found[size] = Fit(size, tried.accumulation, peak_of(tried))
        return not fits(found[size].peak, limit)

    *smaller, whole = _sizes(job.own_sequences)
    if not too_large(whole):
        return found[whole]
    count = bisect_right(smaller, False, key=too_large)
    return found[smaller[count - 1]] if count else None


def _sizes(sequences: int) -> list[int]:
    """The smallest micro batch for every number of micro batches per step, ascending."""
    return sorted({math.ceil(sequences / count) for count in range(1, sequences + 1)})
