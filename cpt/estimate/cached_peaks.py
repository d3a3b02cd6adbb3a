"""Predict the peak memory of each training stage of a plan, and keep it for the next `cpt plan`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cpt import __version__
from cpt.atomic import write_text
from cpt.errors import CptError, DamagedFile
from cpt.estimate.devices import Device, this_machine
from cpt.estimate.hypernetwork_stage import network_memory, plan_network
from cpt.estimate.memory import Memory, memory_of
from cpt.estimate.recipe import plan_job, training_steps
from cpt.json_file import read_json
from cpt.recipe.plan import Entry, Plan
from cpt.recipe.schema import Step
from cpt.references import cache_folder
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.training.distributed.environment import Environment


def cached_peaks(plan: Plan, place: Environment | None = None) -> dict[str, int]:
    """Return the peak bytes of a process on this machine, by training stage, for `cpt plan`.

    Stages whose model is not local are left out: nothing is downloaded. Results are cached.

    Args:
        plan: Plan of the run.
        place: Environment of the run; by default one process on this machine.
    """
    place = place or Environment()
    training = training_steps(plan.recipe)
    peaks = {entry.step.name: _peak(plan, entry, place) for entry in plan.to_run if entry.step in training}
    return {name: peak for name, peak in peaks.items() if peak is not None}


def _peak(plan: Plan, entry: Entry, place: Environment) -> int | None:
    device = this_machine()
    file = _cache_file(plan, entry, place, device)
    with contextlib.suppress(DamagedFile, KeyError):
        return int(read_json(file, dict[str, int])["peak_bytes"])
    try:
        memory = _memory(plan, entry.step, place, device)
    except CptError:  # `cpt estimate` reports it
        return None
    if memory is None:
        return None
    peak = memory.peak
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"peak_bytes": peak}), durable=False, concurrent=True)
    return peak


def _memory(plan: Plan, step: Step, place: Environment, device: Device) -> Memory | None:
    """Return the peak memory of a training stage; None if its model is not local."""
    if isinstance(step.located, HypernetworkStageConfig):
        network = plan_network(plan.recipe, step, plan.artifacts, place, fetch=False)
        return None if network is None else network_memory(network, device)
    planned = plan_job(plan.recipe, step, plan.artifacts, fetch=False, place=place)
    return None if planned is None else memory_of(planned.job, device)


def _cache_file(plan: Plan, entry: Entry, place: Environment, device: Device) -> Path:
    """Return the cache file of a peak, named by a hash of everything that the peak depends on."""
    made = sorted(name for name in entry.step.inputs.values() if name in plan.artifacts)
    key: list[Any] = [
        entry.fingerprint,
        entry.step.located.model_dump_json(),
        made,
        __version__,
        version("torch"),
    ]
    key += [device.as_json(), place.processes, place.sharded, place.replicas]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_folder() / "estimates" / f"{digest[:32]}.json"
