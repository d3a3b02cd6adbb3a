"""Peak memory by part, and the micro batches that fit into a limit."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cpt.estimate.allocations import Part, Timeline, by_part
from cpt.estimate.devices import Device, heap_holes
from cpt.estimate.job import Job
from cpt.estimate.simulate import Simulation, simulate


@dataclass(frozen=True)
class Memory:
    """Peak bytes by part in every phase of a run.

    Attributes:
        moments: Bytes by part, by phase. "load": weights are read and converted to the working precision.
            "probe": held-out text is read. "step": forward and backward pass of one micro batch. "update":
            what the optimizer's step takes for all weights at once, or sends to other processes; not the
            results in between of one matrix. "save": the model is float32 again.
        host: On GPUs the peak of host memory, for all processes on one machine.
    """

    moments: Mapping[str, Mapping[Part, int]]
    host: int | None = None

    @property
    def moment(self) -> str:
        """Return the phase with the highest peak."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Mapping[Part, int]:
        """Return the bytes by part at the peak of that phase."""
        return self.moments[self.moment]

    @property
    def peak(self) -> int:
        """Return the bytes at the peak."""
        return sum(self.parts.values())


def memory_of(job: Job, device: Device) -> Memory:
    """Predict the memory of a run on a device.

    Raises:
        UsageError: A micro batch is too large to be simulated.
    """
    return memory_in(simulate(job, device.hardware), device, job.processes)


def memory_in(simulation: Simulation, device: Device, processes: int = 1) -> Memory:
    """Return the memory of a simulated run: its allocations, and the overhead of process and device."""
    moments = moments_of(simulation.timeline, simulation.process_bytes, device)
    host = simulation.host.peak + processes * simulation.process_bytes
    return Memory(moments, host if device.is_gpu else None)


def moments_of(timeline: Timeline, process_bytes: int, device: Device) -> dict[str, Mapping[Part, int]]:
    """Return bytes by part at the peak of every phase, with the overhead of process and device.

    On a CPU that is the process with its libraries, as measured now, and what the C library keeps of freed
    memory; on a GPU it is the context of CUDA and its libraries.
    """
    moments: dict[str, Mapping[Part, int]] = {}
    for name in timeline.moments:
        held = timeline.peak(name)
        parts = by_part(held)
        parts["other"] += device.context_bytes if device.is_gpu else process_bytes + heap_holes(held)
        moments[name] = parts
    return moments


MARGIN = 0.10
"""Share of the memory to leave free: the prediction is accurate to a tenth."""


@dataclass(frozen=True)
class Fit:
    """A micro batch that fits, the micro batches of a step, and the peak in bytes."""

    micro_batch: int
    accumulation: int
    peak: int


def fits(peak: int, limit: int) -> bool:
    """Return True if a predicted peak fits with the margin."""
    return peak * (1 + MARGIN) <= limit


def largest_fit(job: Job, limit: int, peak_of: Callable[[Job], int]) -> Fit | None:
    """Return the fewest micro batches per step that fit; None if not even one sequence at a time fits.

    The global batch, and so the trained weights, stay the same.

    Args:
        job: Run to fit.
        limit: Bytes of memory.
        peak_of: Function that predicts the peak of a job. It grows with the micro batch, except that a single
            micro batch per step needs no sum of gradients.
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
    """Return the smallest micro batch for every number of micro batches per step, ascending."""
    return sorted({math.ceil(sequences / count) for count in range(1, sequences + 1)})
