"""Runs in processes of their own that are killed (kill -9) at random moments, until they are finished.

The processes are forked by a server that has imported everything already, so that an attempt takes a second.
"""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tiny_runs import SETTINGS, Batches
from tiny_training import Said

from cpt.models.packed_model import load_model
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.writing import MODEL
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.loop import train
from cpt.training.settings import Settings

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    ["cpt.training.loop", "cpt.models.packed_model", "transformers.models.llama.modeling_llama"]
)


def settings(mode: str, steps: int = 40) -> Settings:
    """A run that writes a checkpoint after every third step and keeps two."""
    checkpoint = Checkpoints.model_validate({"every": 3, "keep": 2, "mode": mode})
    return SETTINGS.with_changes(steps=steps, checkpoint=checkpoint)


def attempt(model_folder: Path, work: Path, chosen: Settings, place: dict[str, str], begun: Any) -> None:
    """Train from where the last attempt was; the finished weights are written to `work / "final"`.

    Args:
        place: what a launcher would put into the environment of this process, if it is one of several.
    """
    os.environ |= place
    torch.set_num_threads(1)
    model, is_main = load_model(model_folder), distributed_context().is_main
    begun.send(True)
    train(model, Batches(), [], chosen, work, Said())
    if is_main:
        written = work / MODEL  # sharded weights are written there, and never whole in the model
        found = (
            load_file(written / "model.safetensors") if written.exists() else dict(model.named_parameters())
        )
        save_file({name: found[name].detach().clone() for name in sorted(found)}, work / "aside")
        (work / "aside").rename(work / "final")


@dataclasses.dataclass
class Outcome:
    """What became of the runs.

    Attributes:
        kills: how many attempts were killed, `in_a_write` of them while a checkpoint was being written.
        runs: finished runs; `equal` of them ended as an undisturbed one did.
        resumed: largest number of attempts that one run took, beyond its first.
    """

    kills: int = 0
    in_a_write: int = 0
    runs: int = 0
    equal: int = 0
    resumed: int = 0


def kill_until(
    model: Path,
    folder: Path,
    chosen: Settings,
    kills: int,
    seed: int,
    counts: Sequence[int] = (1,),
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run again and again, killing at random moments, until so many attempts were killed.

    A run whose last attempt lives long enough is finished and compared with an undisturbed one; the last run
    is not disturbed any more once the kills are done.

    Args:
        counts: numbers of processes, one of which is drawn for each attempt; the undisturbed run has the
            first. With only one number the weights must be equal to the bit, otherwise the steps' losses
            must be the same but for rounding: they are not if any step had other data.
        environment: what the launcher puts into the environment of every process besides.
    """
    moments, outcome = random.Random(seed), Outcome()
    undisturbed = folder / "undisturbed"
    seconds = _attempt(model, undisturbed, chosen, counts[0], environment).seconds
    while outcome.kills < kills:
        outcome.runs += 1
        work, attempts = folder / f"run-{outcome.runs}", 0
        while not (work / "final").exists():
            attempts += 1
            after = None if outcome.kills == kills else moments.uniform(0, 0.8 * seconds)
            if _attempt(model, work, chosen, moments.choice(counts), environment, after).killed:
                outcome.kills += 1
                outcome.in_a_write += bool(list(work.glob(".step-*")))
        outcome.resumed = max(outcome.resumed, attempts - 1)
        same = _same_weights if len(counts) == 1 else _same_losses
        outcome.equal += same(work, undisturbed)
    return outcome


def _same_weights(work: Path, other: Path) -> bool:
    weights, expected = load_file(work / "final"), load_file(other / "final")
    return all(torch.equal(weights[name], value) for name, value in expected.items())


def _same_losses(work: Path, other: Path) -> bool:
    steps, expected = _log(work), _log(other)
    return len(steps) == len(expected) and all(
        (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        and math.isclose(a["loss_nats"], b["loss_nats"], rel_tol=1e-4)
        for a, b in zip(steps, expected, strict=True)
    )


def _log(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / "steps.jsonl").read_text().splitlines()]


class Attempt(NamedTuple):
    """Whether it was killed, and how long it trained."""

    killed: bool
    seconds: float


def _attempt(
    model: Path,
    work: Path,
    chosen: Settings,
    count: int,
    environment: dict[str, str] | None,
    after: float | None = None,
) -> Attempt:
    """One attempt, killed some seconds after its training began; with None it is left alone."""
    reader, begun = _FORKED.Pipe(duplex=False)
    processes = [
        _FORKED.Process(target=attempt, args=(model, work, chosen, place | (environment or {}), begun))
        for place in _places(count)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        while not reader.poll(0.05):
            if any(process.exitcode for process in processes):
                raise AssertionError(f"the attempt failed with {[each.exitcode for each in processes]}")
        reader.recv()
    began = time.monotonic()
    processes[0].join(after)
    killed = processes[0].exitcode is None
    for process in processes:
        if killed:
            process.kill()
        process.join()
    if not killed and any(process.exitcode for process in processes):
        raise AssertionError(f"the attempt failed with {[each.exitcode for each in processes]}")
    return Attempt(killed, time.monotonic() - began)


def _places(count: int) -> list[dict[str, str]]:
    """What a launcher of so many processes would put into the environment of each."""
    if count == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [{**address, **sizes, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
