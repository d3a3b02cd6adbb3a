"""Runs in processes of their own that are killed (kill -9) at random moments, until they are finished.

The processes are forked by a server that has imported everything already, so that an attempt takes a second.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tiny_runs import SETTINGS, Batches
from tiny_training import Said

from cpt.packed.model import load_model
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.loop import train
from cpt.training.settings import Settings

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    ["cpt.training.loop", "cpt.packed.model", "transformers.models.llama.modeling_llama"]
)


def settings(mode: str, steps: int = 40) -> Settings:
    """A run that writes a checkpoint after every third step and keeps two."""
    checkpoint = Checkpoints.model_validate({"every": 3, "keep": 2, "mode": mode})
    return dataclasses.replace(SETTINGS, steps=steps, probe_at=(), checkpoint=checkpoint)


def attempt(model_folder: Path, work: Path, chosen: Settings, begun: Any) -> None:
    """Train from where the last attempt was; the finished weights are written to `work / "final"`."""
    torch.set_num_threads(1)
    model = load_model(model_folder)
    begun.send(True)
    train(model, Batches(), {}, chosen, work, Said())
    save_file({name: p.detach().clone() for name, p in model.named_parameters()}, work / "aside")
    (work / "aside").rename(work / "final")


@dataclasses.dataclass
class Outcome:
    """What became of the runs.

    Attributes:
        kills: how many attempts were killed, `in_a_write` of them while a checkpoint was being written.
        runs: finished runs; `equal` of them ended with the very weights of an undisturbed run.
        resumed: largest number of attempts that one run took, beyond its first.
    """

    kills: int = 0
    in_a_write: int = 0
    runs: int = 0
    equal: int = 0
    resumed: int = 0


def kill_until(model: Path, folder: Path, chosen: Settings, kills: int, seed: int) -> Outcome:
    """Run again and again, killing at random moments, until so many attempts were killed.

    A run whose last attempt lives long enough is finished and compared with an undisturbed one; the last run
    is not disturbed any more once the kills are done.
    """
    moments, outcome = random.Random(seed), Outcome()
    undisturbed = folder / "undisturbed"
    seconds = _attempt(model, undisturbed, chosen).seconds
    expected = load_file(undisturbed / "final")
    while outcome.kills < kills:
        outcome.runs += 1
        work, attempts = folder / f"run-{outcome.runs}", 0
        while not (work / "final").exists():
            attempts += 1
            last = outcome.kills == kills
            if _attempt(model, work, chosen, None if last else moments.uniform(0, 0.8 * seconds)).killed:
                outcome.kills += 1
                outcome.in_a_write += bool(list(work.glob(".step-*")))
        outcome.resumed = max(outcome.resumed, attempts - 1)
        weights = load_file(work / "final")
        outcome.equal += all(torch.equal(weights[name], value) for name, value in expected.items())
    return outcome


class Attempt(NamedTuple):
    """Whether it was killed, and how long it trained."""

    killed: bool
    seconds: float


def _attempt(model: Path, work: Path, chosen: Settings, after: float | None = None) -> Attempt:
    """One attempt, killed some seconds after its training began; with None it is left alone."""
    reader, begun = _FORKED.Pipe(duplex=False)
    process = _FORKED.Process(target=attempt, args=(model, work, chosen, begun))
    process.start()
    while not reader.poll(0.05):
        if not process.is_alive():
            raise AssertionError(f"the attempt failed with {process.exitcode}")
    began = time.monotonic()
    process.join(after)
    process.kill()
    process.join()
    if process.exitcode not in (0, -9):
        raise AssertionError(f"the attempt failed with {process.exitcode}")
    return Attempt(process.exitcode == -9, time.monotonic() - began)
