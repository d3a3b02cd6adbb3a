"""The training loop, readable from top to bottom.

A step: take the global batch that belongs to it, accumulate the gradient of its mean loss over micro
batches, clip, set the rate, step. Around it: probes, the log, checkpoints, the ledger.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator

from cpt.errors import StageFailed
from cpt.monitor.bits_per_byte import TokenisedText
from cpt.monitor.probes import Reading, read_probes
from cpt.packed.model import PackedLanguageModel
from cpt.training.checkpoint import load_newest, save_checkpoint
from cpt.training.checks import TrainingProof, check_isolation
from cpt.training.data import PackedSequence, Stream, pack_sequences, pieces, target_count
from cpt.training.log import StepLog
from cpt.training.master import MasterWeights
from cpt.training.optimizer import AdamW
from cpt.training.schedules import Schedule


class Progress(Protocol):
    """Where the loop says how far it is."""

    def message(self, text: str) -> None: ...

    def update(self, done: int, total: int, unit: str, **facts: float) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: optimizer steps.
        micro_batch: sequences that go through the model at once.
        clip: largest norm of the gradient.
        dtype: precision in which the model computes; master weights and optimizer state are float32.
        probe_at: steps after which probes are read; 0 is before the first.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the newest are kept.
        compile: compile the parts of the layers whose shapes do not depend on the documents.
    """

    steps: int
    micro_batch: int
    schedule: Schedule
    optimizer: AdamW
    clip: float
    dtype: torch.dtype
    probe_at: Collection[int]
    checkpoint_every: int
    keep_checkpoints: int
    compile: bool = False


@dataclass
class State:
    """Where a run stands. Saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    readings: list[dict[str, Any]] = field(default_factory=list)
    log_bytes: int = 0


@dataclass(frozen=True)
class Result:
    """What a finished training run knows of itself; `ledger` is checked against what the loop counted."""

    steps: int
    tokens: int
    seconds: float
    ledger: Mapping[str, Mapping[str, float]]
    readings: list[Reading]


def train(
    model: Any,
    stream: Stream,
    probes: dict[str, TokenisedText],
    settings: Settings,
    work: Path,
    progress: Progress,
) -> Result:
    """Train `model` in place; continue from the newest checkpoint in `work` when there is one.

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
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise StageFailed("training on several processes is not supported yet", hint="Start one process.")
    module = PackedLanguageModel(model.to(accelerator.device))
    master = MasterWeights(model, settings.dtype)
    optimizer = settings.optimizer.build(master.weights.values())
    state = _resume(work, master, optimizer, progress)
    _check_isolation(module, stream.batch(0))
    if settings.compile:
        _compile_elementwise(model)
    prepared, stepper = accelerator.prepare(module, optimizer)
    log = StepLog(work / "steps.jsonl", state.log_bytes)
    if state.step == 0 and 0 in settings.probe_at and not state.readings:
        _probe(module, probes, state, progress)

    while state.step < settings.steps:
        proof = TrainingProof(master.weights) if state.step == 0 else None
        began = time.perf_counter()
        record = _step(prepared, master, stepper, accelerator, stream.batch(state.step), settings, state)
        taken = time.perf_counter() - began
        if proof:
            proof.check(master.weights)
        state.seconds += taken
        speed = record.pop("batch_tokens") / taken
        log.write({**record, "seconds": state.seconds, "tokens_per_second": speed})
        latest = {r["probe"]: r["bits_per_byte"] for r in state.readings}
        progress.update(
            state.step, settings.steps, "step", loss=record["loss_nats"], tokens_per_second=speed, **latest
        )
        if state.step in settings.probe_at:
            _probe(module, probes, state, progress)
        if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
            state.log_bytes = log.length()
            save_checkpoint(work, master.weights, optimizer, asdict(state), settings.keep_checkpoints)
    log.close()
    master.release(model)
    readings = [Reading.from_json(reading) for reading in state.readings]
    return Result(state.step, state.tokens, state.seconds, _checked_ledger(stream, state), readings)


def _resume(work: Path, master: MasterWeights, optimizer: torch.optim.Optimizer, progress: Progress) -> State:
    saved, damaged = load_newest(work, master.weights, optimizer)
    master.publish()
    for name in damaged:
        progress.message(f"checkpoint {name} was damaged and is removed")
    if saved is None:
        return State()
    progress.message(f"continues after step {saved['step']}")
    return State(**saved)


def _step(
    module: Any,
    master: MasterWeights,
    optimizer: Any,
    accelerator: Accelerator,
    batch: Sequence[PackedSequence],
    settings: Settings,
    state: State,
) -> dict[str, Any]:
    """One optimizer step on a global batch; advances the state, returns the log record."""
    rate = settings.schedule.rate(state.step, settings.steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    targets = target_count(batch)
    loss = torch.zeros((), device=accelerator.device)
    for start in range(0, len(batch), settings.micro_batch):
        packed = pack_sequences(batch[start : start + settings.micro_batch]).to(accelerator.device)
        nats = module(packed)
        accelerator.backward(nats / targets)  # a mean over the global batch, whatever the micro batches hold
        master.collect()
        loss += nats.detach()
    norm = accelerator.clip_grad_norm_(master.weights.values(), settings.clip)
    mean = float(loss) / targets
    if not (math.isfinite(mean) and math.isfinite(float(norm))):
        raise StageFailed(
            f"the loss is {mean:g} and the gradient norm {float(norm):g} at step {state.step + 1}",
            hint="Lower the peak learning rate, warm up longer, or train in float32 (precision: fp32).",
        )
    optimizer.step()
    optimizer.zero_grad()
    master.publish()
    _count(batch, state)
    return {
        "step": state.step,
        "tokens": state.tokens,
        "loss_nats": mean,
        "lr": rate,
        "grad_norm": float(norm),
        "batch_tokens": sum(len(sequence.tokens) for sequence in batch),
    }


def _count(batch: Sequence[PackedSequence], state: State) -> None:
    """Enter a trained batch into the state."""
    state.step += 1
    for sequence in batch:
        entry = state.counted.setdefault(sequence.source, {"sequences": 0, "tokens": 0})
        entry["sequences"] += 1
        entry["tokens"] += len(sequence.tokens)
        state.tokens += len(sequence.tokens)


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


def _checked_ledger(stream: Stream, state: State) -> Mapping[str, Mapping[str, float]]:
    """The stream's own account of the run, which must equal what the loop counted."""
    ledger = stream.ledger(state.step)
    for source, entry in ledger.items():
        counted = state.counted.get(source, {"sequences": 0, "tokens": 0})
        if any(entry[key] != counted[key] for key in ("sequences", "tokens")):
            raise StageFailed(
                f"by the ledger {entry['tokens']:.0f} tokens of {source} were trained on, "
                f"by the loop {counted['tokens']}"
            )
    return ledger
