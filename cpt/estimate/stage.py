"""Everything that is predicted of one pretrain stage."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

from cpt.estimate.devices import Device
from cpt.estimate.duration import Calibration, Duration, by_peak, calibrate, flops_per_token
from cpt.estimate.job import Job
from cpt.estimate.memory import Fit, Memory, fits, largest_fit, memory_in, memory_of
from cpt.estimate.recipe import Planned
from cpt.estimate.simulate import simulate


@dataclass(frozen=True)
class Wanted:
    """What is asked.

    Attributes:
        device: where the run would be, on `count` of them.
        limit: bytes of memory to fit in.
        price: of one device per hour, if the cost is wanted.
        calibrate: measure this machine.
        suggest: look for the largest micro batch that fits, even if the recipe's own does.
    """

    device: Device
    count: int
    limit: int
    price: float | None = None
    calibrate: bool = False
    suggest: bool = False


@dataclass(frozen=True)
class Estimate:
    """What is predicted.

    Attributes:
        suggested: whether `fit` was looked for; it is None when nothing fits.
        recomputed: what then fits with gradient checkpointing, if anything does.
        duration: None when nothing tells how fast the device is.
        cost: in the currency of the price; None without one.
    """

    planned: Planned
    memory: Memory
    limit: int
    suggested: bool
    fit: Fit | None
    recomputed: Fit | None
    flops_per_token: float
    duration: Duration | None
    calibration: Calibration | None
    cost: float | None

    @property
    def fits(self) -> bool:
        """Whether the recipe's own micro batch fits, with room to spare."""
        return fits(self.memory.peak, self.limit)

    def as_json(self) -> dict[str, Any]:
        """Plain data, in bytes and seconds."""
        job, memory = self.planned.job, self.memory
        return {
            "stage": self.planned.step.name,
            "peak_bytes": memory.peak,
            "moment": memory.moment,
            "parts": dict(memory.parts),
            "moments": {name: dict(parts) for name, parts in memory.moments.items()},
            "batch_sequences": len(job.sequences),
            "micro_batch_sequences": job.settings.micro_batch,
            "accumulation": job.accumulation,
            "processes": job.processes,
            "divided": job.sharded,
            "host_bytes": memory.host,
            "limit_bytes": self.limit,
            "fits": self.fits,
            "suggestion": asdict(self.fit) if self.fit else None,
            "suggestion_with_gradient_checkpointing": asdict(self.recomputed) if self.recomputed else None,
            "steps": job.settings.steps,
            "tokens": job.settings.tokens,
            "flops_per_token": self.flops_per_token,
            "time": asdict(self.duration) if self.duration else None,
            "calibration": self.calibration.as_json() if self.calibration else None,
            "cost": self.cost,
            "assumptions": list(self.planned.assumptions),
        }


def estimate(planned: Planned, wanted: Wanted) -> Estimate:
    """Predict memory, time and cost of a planned stage."""
    job, device = planned.job, wanted.device
    simulation = simulate(job, device.hardware)
    memory = memory_in(simulation, device, job.processes)
    suggest = wanted.suggest or not fits(memory.peak, wanted.limit)

    def peak_of(tried: Job) -> int:
        return memory_of(tried, device).peak if tried.can_be_simulated else sys.maxsize

    fit = largest_fit(job, wanted.limit, peak_of) if suggest else None
    recomputed = None
    if suggest and fit is None and not (job.sharded or job.settings.gradient_checkpointing):
        recomputed = largest_fit(job.with_checkpointing(), wanted.limit, peak_of)
    calibration = calibrate(job, simulation.weights, device.hardware) if wanted.calibrate else None
    duration = None
    if calibration is not None:
        duration = calibration.duration(job)
    elif device.peak(job.settings.dtype):
        duration = by_peak(job, simulation.weights, device)
    cost = None
    if duration is not None and wanted.price is not None:
        cost = duration.cost(wanted.count, wanted.price)
    flops = flops_per_token(job, simulation.weights)
    return Estimate(
        planned, memory, wanted.limit, suggest, fit, recomputed, flops, duration, calibration, cost
    )
