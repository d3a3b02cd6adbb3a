"""The training loop, readable from top to bottom.

A step: take the global batch that belongs to it, accumulate the gradient of its mean loss over micro
batches, clip, set the rate, step. Around it: probes, the log, checkpoints, the ledger.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch

from cpt.errors import StageFailed
from cpt.monitor.bits_per_byte import TokenisedText
from cpt.monitor.probes import Reading, read_probes
from cpt.packed.model import PackedLanguageModel
from cpt.training.checkpoint import load_newest, save_checkpoint
from cpt.training.checks import TrainingProof, check_isolation
from cpt.training.data import PackedSequence, Stream, pieces
from cpt.training.groups import group_weights
from cpt.training.log import NoLog, StepLog
from cpt.training.processes import Processes
from cpt.training.settings import Settings
from cpt.training.sharding import Masters, master_weights
from cpt.training.state import Result, State
from cpt.training.step import Gradient, Stepper
from cpt.training.world import world


class Progress(Protocol):
    """Where the loop says how far it is."""

    def message(self, text: str) -> None: ...

    def update(self, done: int, total: int, unit: str, **facts: float) -> None: ...


def train(
    model: Any,
    stream: Stream,
    probes: dict[str, TokenisedText],
    settings: Settings,
    work: Path,
    progress: Progress,
) -> Result:
    """Train `model` in place; continue from the newest checkpoint in `work` when there is one.

    On several processes (`cpt.training.world`) all of them call this alike; the first one writes.

    The model stays in evaluation mode: continual pretraining goes without dropout, as pretraining did.

    Args:
        model: causal language model whose attention is `cpt.packed.attention`, float32 weights before and
            after.
        probes: texts whose bits per byte are read on the way.
        work: folder for checkpoints and `steps.jsonl`; it survives a kill.

    Raises:
        StageFailed: documents see each other, a parameter does not train, the loss is not finite, or the
            ledger does not match what was trained on.
    """
    processes = Processes(world())
    module = PackedLanguageModel(model)
    master = master_weights(module, settings, processes)
    optimizer = settings.optimizer.build(group_weights(model, master.weights))
    state = _resume(work, master, optimizer, processes, progress)
    _check_isolation(module, stream.batch(0))
    if settings.compile:
        _compile_elementwise(model)
    stepper = Stepper(module, master, optimizer, processes, settings)
    log = StepLog(work / "steps.jsonl", state.log_bytes) if processes.is_main else NoLog()
    if state.step == 0 and 0 in settings.probe_at and not state.readings:
        _probe(module, probes, state, progress)

    while state.step < settings.steps:
        proof = TrainingProof(master.weights) if state.step == 0 else None
        began = time.perf_counter()
        batch = stream.batch(state.step)
        gradient = stepper.gradient(batch)
        _refuse_what_is_not_finite(gradient, state.step + 1)
        rate = settings.schedule.rate(state.step, settings.steps)
        stepper.apply(rate)
        taken = time.perf_counter() - began
        if proof:
            proof.check(master.weights)
        before = state.tokens
        state.count(batch)
        state.seconds += taken
        speed = (state.tokens - before) / taken
        log.write(
            {
                "step": state.step,
                "tokens": state.tokens,
                "loss_nats": gradient.loss_nats,
                "lr": rate,
                "grad_norm": gradient.norm,
                "seconds": state.seconds,
                "tokens_per_second": speed,
            }
        )
        latest = {r["probe"]: r["bits_per_byte"] for r in state.readings}
        progress.update(
            state.step, settings.steps, "step", loss=gradient.loss_nats, tokens_per_second=speed, **latest
        )
        if state.step in settings.probe_at:
            _probe(module, probes, state, progress)
        if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
            state.log_bytes = log.length()
            save_checkpoint(
                work,
                master.weights,
                optimizer,
                asdict(state),
                settings.keep_checkpoints,
                processes.is_main,
            )
    log.close()
    master.release(model)
    processes.close()
    readings = [Reading.from_json(reading) for reading in state.readings]
    return Result(state.step, state.tokens, state.seconds, state.checked_ledger(stream), readings)


def _resume(
    work: Path,
    master: Masters,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
    progress: Progress,
) -> State:
    with processes.main_first():  # which removes damaged ones
        saved, damaged = load_newest(work, master.weights, optimizer)
    processes.check_same(saved["step"] if saved else 0, "the checkpoint to continue from")
    master.publish()
    for name in damaged:
        progress.message(f"checkpoint {name} was damaged and is removed")
    if saved is None:
        return State()
    progress.message(f"continues after step {saved['step']}")
    return State(**saved)


def _refuse_what_is_not_finite(gradient: Gradient, step: int) -> None:
    if not (math.isfinite(gradient.loss_nats) and math.isfinite(gradient.norm)):
        raise StageFailed(
            f"the loss is {gradient.loss_nats:g} and the gradient norm {gradient.norm:g} at step {step}",
            hint="Lower the peak learning rate, warm up longer, or train in float32 (precision: fp32).",
        )


def _probe(
    module: PackedLanguageModel, probes: dict[str, TokenisedText], state: State, progress: Progress
) -> None:
    readings = read_probes(module, probes, state.step, state.tokens)
    state.readings.extend(reading.as_json() for reading in readings)
    shown = ", ".join(f"{reading.probe} {reading.bits_per_byte:.4f}" for reading in readings)
    progress.message(f"step {state.step}: {shown} bits per byte")


def _check_isolation(module: PackedLanguageModel, batch: Sequence[PackedSequence]) -> None:
    found = [piece for sequence in batch for piece in pieces(sequence) if len(piece) > 1]
    if len(found) > 1:
        check_isolation(module, found[0], found[1])


def _compile_elementwise(model: Any) -> None:
    """Compile what does not depend on how documents lie: feed-forward blocks and norms."""
    for name, part in model.named_modules():
        if name.endswith((".mlp", "norm")):
            part.compile(dynamic=True)
