"""Peak memory for `cpt plan`: nothing is fetched, and what was reckoned once is remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt import __version__
from cpt.atomic import write_text
from cpt.errors import CptError, DamagedFile
from cpt.estimate.recipe import plan_job
from cpt.json_file import read_json
from cpt.recipe.plan import Entry, Plan
from cpt.references import cache_folder
from cpt.stages.pretrain.config import PretrainConfig
from cpt.training.place import Place

if TYPE_CHECKING:
    from cpt.estimate.device import Device


def peaks_at_hand(plan: Plan, place: Place | None = None) -> dict[str, int]:
    """Peak bytes of a process, on this machine, of the stages that would train and whose model is at hand.

    Args:
        place: among how many processes the work is divided; a single one by default.
    """
    place = place or Place()
    training = [entry for entry in plan.to_run if isinstance(entry.step.located, PretrainConfig)]
    peaks = {entry.step.name: _peak(plan, entry, place) for entry in training}
    return {name: peak for name, peak in peaks.items() if peak is not None}


def _peak(plan: Plan, entry: Entry, place: Place) -> int | None:
    from cpt.estimate.device import this_machine

    device = this_machine()
    memo = _memo(plan, entry, place, device)
    with contextlib.suppress(DamagedFile, KeyError):
        return int(read_json(memo, dict[str, int])["peak_bytes"])
    planned = plan_job(plan.recipe, entry.step, plan.artifacts, fetch=False, place=place)
    if planned is None:
        return None
    from cpt.estimate.memory import memory_of

    try:
        peak = memory_of(planned.job, device).peak
    except CptError:  # `cpt estimate` says why
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_text(memo, json.dumps({"peak_bytes": peak}), durable=False, concurrent=True)
    return peak


def _memo(plan: Plan, entry: Entry, place: Place, device: Device) -> Path:
    """Where the peak is remembered: by all that it follows from."""
    made = sorted(name for name in entry.step.inputs.values() if name in plan.artifacts)
    key: list[Any] = [
        entry.fingerprint,
        entry.step.located.model_dump_json(),
        made,
        __version__,
        version("torch"),
    ]
    key += [device.as_json(), place.processes, place.divided]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_folder() / "estimates" / f"{digest[:32]}.json"
