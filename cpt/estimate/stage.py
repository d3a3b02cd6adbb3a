"""All predictions for one pretrain stage."""

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
class EstimateRequest:
    """Options of an estimate.

    Attributes:
        device: Device of the run.
        count: Number of devices.
        limit: Bytes of memory to fit in.
        price: Price of one device per hour, for the cost.
        calibrate: True to measure this machine.
        suggest: True to find the largest micro batch that fits, even if the recipe's own fits.
    """

    device: Device
    count: int
    limit: int
    price: float | None = None
    calibrate: bool = False
    suggest: bool = False


@dataclass(frozen=True)
class Estimate:
    """Predictions for a stage.

    Attributes:
        planned: The stage and its job.
        memory: Peak memory by part.
        limit: Bytes of memory to fit in.
        suggested: True if `fit` was searched for; it is None if nothing fits.
        fit: Largest micro batch that fits.
        checkpointed: Largest micro batch that then fits with gradient checkpointing, if any.
        flops_per_token: Operations per token.
        duration: Duration; None if the speed of the device is unknown, or no variant fits.
        calibration: Measurement on this machine, if requested.
        cost: Cost in the currency of the price; None without a price.
        priced: Run that duration and cost are of, which fits; None if none does.
        price: Price of one device per hour, if given.
        on_gpu: True if the device is a GPU.
    """

    planned: Planned
    memory: Memory
    limit: int
    suggested: bool
    fit: Fit | None
    checkpointed: Fit | None
    flops_per_token: float
    duration: Duration | None
    calibration: Calibration | None
    cost: float | None
    priced: Job | None
    price: float | None
    on_gpu: bool

    @property
    def tokens(self) -> int:
        """Return the number of tokens in all steps."""
        return self.planned.job.settings.tokens

    @property
    def fits(self) -> bool:
        """Return True if the recipe's own micro batch fits with the margin."""
        return fits(self.memory.peak, self.limit)

    @property
    def variant(self) -> dict[str, Any] | None:
        """Return the settings that duration and cost are of, as a recipe writes them; None if none fit."""
        if self.priced is None:
            return None
        found: dict[str, Any] = {"micro_batch_sequences": self.priced.settings.micro_batch}
        return found | {"gradient_checkpointing": self.priced.settings.config.gradient_checkpointing}

    def as_json(self) -> dict[str, Any]:
        """Return JSON data, in bytes and seconds."""
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
            "sharded": job.sharded,
            "host_bytes": memory.host,
            "limit_bytes": self.limit,
            "fits": self.fits,
            "suggestion": asdict(self.fit) if self.fit else None,
            "suggestion_with_gradient_checkpointing": asdict(self.checkpointed)
            if self.checkpointed
            else None,
            "steps": job.settings.steps,
            "tokens": job.settings.tokens,
            "flops_per_token": self.flops_per_token,
            "time": asdict(self.duration) if self.duration else None,
            "calibration": self.calibration.as_json() if self.calibration else None,
            "cost": self.cost,
            "priced": self.variant,
            "assumptions": list(self.planned.assumptions),
        }


def estimate(planned: Planned, request: EstimateRequest) -> Estimate:
    """Predict memory, time and cost of a planned stage."""
    job, device = planned.job, request.device
    simulation = simulate(job, device.hardware)
    memory = memory_in(simulation, device, job.processes)
    suggest = request.suggest or not fits(memory.peak, request.limit)

    def peak_of(tried: Job) -> int:
        return memory_of(tried, device).peak if tried.can_be_simulated else sys.maxsize

    fit = largest_fit(job, request.limit, peak_of) if suggest else None
    checkpointed = None
    if suggest and fit is None and not job.settings.config.gradient_checkpointing:
        checkpointed = largest_fit(job.with_checkpointing(), request.limit, peak_of)
    priced: Job | None = job
    if not fits(memory.peak, request.limit):
        priced = _fitting(job, fit, checkpointed)
    calibration: Calibration | None = None
    duration: Duration | None = None
    cost: float | None = None
    if priced is not None and request.calibrate:
        calibration = calibrate(priced, simulation.weights, device.hardware)
        duration = calibration.duration(priced)
    elif priced is not None and device.peak(job.settings.dtype):
        duration = by_peak(priced, simulation.weights, device)
    if duration is not None and request.price is not None:
        cost = duration.cost(request.count, request.price)
    flops = flops_per_token(priced or job, simulation.weights)
    return Estimate(
        planned=planned,
        memory=memory,
        limit=request.limit,
        suggested=suggest,
        fit=fit,
        checkpointed=checkpointed,
        flops_per_token=flops,
        duration=duration,
        calibration=calibration,
        cost=cost,
        priced=priced,
        price=request.price,
        on_gpu=device.is_gpu,
    )


def _fitting(job: Job, fit: Fit | None, checkpointed: Fit | None) -> Job | None:
    """Return the variant of a job that fits, which trains the same weights; None if none does."""
    if fit is not None:
        return job.with_micro_batch(fit.micro_batch)
    if checkpointed is not None:
        return job.with_checkpointing().with_micro_batch(checkpointed.micro_batch)
    return None
