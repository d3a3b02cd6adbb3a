"""Peak memory by part: the most that any moment of a run holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpt.estimate.device import Device
from cpt.estimate.job import Job
from cpt.estimate.process import heap_holes
from cpt.estimate.rehearsal import Rehearsal, rehearse
from cpt.estimate.timeline import Part, by_part


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
    return memory_in(rehearse(job, device.hardware), device, job.processes)


def memory_in(rehearsal: Rehearsal, device: Device, processes: int = 1) -> Memory:
    """The memory of a rehearsed run: what it allocates, and what process and device take besides.

    On a CPU that is the process with its libraries, as measured now, and what the C library keeps of freed
    memory; on a GPU it is the context of CUDA and its libraries.
    """
    moments: dict[str, Mapping[Part, int]] = {}
    for name in rehearsal.timeline.moments:
        held = rehearsal.timeline.peak(name)
        parts = by_part(held)
        around = rehearsal.process_bytes + heap_holes(held)
        parts["other"] += device.context_bytes if device.is_gpu else around
        moments[name] = parts
    host = rehearsal.host.peak + processes * rehearsal.process_bytes
    return Memory(moments, host if device.is_gpu else None)
