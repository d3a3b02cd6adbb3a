"""The training loop, readable from top to bottom.

A step: take the global batch that belongs to it, accumulate the gradient of its mean loss over micro
batches, clip, set the rate, step. Around it: probes, the log, checkpoints, the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel
from cpt.monitor.probes.base import Probe, Subject
from cpt.progress import Progress
from cpt.training.anomalies import Anomalies, Anomaly
from cpt.training.checkpoint.keeper import CheckpointManager
from cpt.training.checkpoint.parts import OptimizerState, Part, Weights
from cpt.training.checkpoint.policy import anneal_begins
from cpt.training.checks import TrainingProof, check_isolation
from cpt.training.clock import StepClock
from cpt.training.control import Control, kept_points
from cpt.training.data import PackedSequence, Stream, pieces
from cpt.training.float8 import to_float8
from cpt.training.log import write_lines
from cpt.training.processes import Processes
from cpt.training.recompute import recompute_layers
from cpt.training.settings import Settings
from cpt.training.sharding import master_weights
from cpt.training.state import Result, State
from cpt.training.step import Gradient, Stepper
from cpt.training.stopping import HeldSignals
from cpt.training.trackers import open_trackers
from cpt.training.trainable import Setup
from cpt.training.trainable.table import table
from cpt.training.trainable.trained import Trained
from cpt.training.watch import Watch
from cpt.training.world import world


def train(
    model: Any,
    stream: Stream,
    probes: Sequence[Probe],
    settings: Settings,
    work: Path,
    progress: Progress,
    teacher: Any = None,
) -> Result:
    """Train `model` in place; continue from the newest checkpoint in `work` when there is one.

    On several processes (`cpt.training.world`) all of them call this alike; the main one writes.

    The model stays in evaluation mode: continual pretraining goes without dropout, as pretraining did.
    Ctrl-C and SIGTERM end the micro batch, and the step if it was the last of it, else that step is dropped;
    a checkpoint is saved, and then they do what they did before.

    Args:
        model: causal language model whose attention is `cpt.models.attention`, float32 weights before and
            after.
        probes: what is measured on the way.
        work: folder for checkpoints, `steps.jsonl`, `probes.jsonl` and `anomalies.jsonl`; it survives a kill.
        teacher: float32 model for an objective that names one.

    Raises:
        StageFailed: documents see each other, a parameter does not train, a loss is not finite, the
            ledger does not match what was trained on, or the run in `work` began with other settings.
        DiskFull: a checkpoint does not fit on the disk.
    """
    processes = Processes(world())
    anomalies_file = work / "anomalies.jsonl" if processes.is_main else None
    beside = settings.objective.beside(model, teacher)
    choice = settings.trainable.choose(model, Setup(settings.steps, settings.new_tokens, settings.seed))
    module = PackedLanguageModel(model)
    trained = Trained(choice, master_weights(module, choice, settings, processes))
    optimizer = settings.optimizer.build(trained.groups(model))
    trained.attach(optimizer)
    if beside:
        beside.hold(settings.dtype, processes.device)
    if settings.l2_sp:
        settings.l2_sp.attach(optimizer)
    average = settings.average.of(trained.weights, trained.publish) if settings.average else None
    state = State()
    parts: dict[str, Part] = {
        "weights": Weights(trained.kept, trained.publish),
        "optimizer": OptimizerState(optimizer, trained.weights),
        **({"average": average} if average else {}),
    }
    pre_anneal = anneal_begins(settings.schedule, settings.steps, stream)
    if pre_anneal and not choice.is_model:
        progress.message("the model before the anneal is not kept: an adapter is no model until it is merged")
        pre_anneal = None
    points = kept_points(settings.gates, parts, "optimizer", state)
    with CheckpointManager(work, parts, state, settings, progress, processes, pre_anneal, points) as keeper:
        trained.publish()
        log = keeper.resume()
        progress.message(table(trained, model))
        control = Control(settings, state, stream, points, work, progress, processes)
        state.checked_ledger(control.stream)
        _check_isolation(module, stream.batch(0))
        for each in (model, *([beside.module.model] if beside else [])):
            prepare(each, settings)
        signals, loss = HeldSignals(), settings.objective.loss(beside)
        stepper = Stepper(module, trained, optimizer, processes, settings, loss, lambda: signals.came)
        trackers = open_trackers(settings.trackers, work, state.step, progress.message)
        subject, shown = Subject(module, trained.masters), average.shown if average else nullcontext
        watch = Watch(probes, subject, state, settings, work, progress, processes, trackers, shown)
        watch.begin()
        control.after_probes()

        # rounding by chance may leave a small tensor where it was: nothing is proven then
        proof = None if settings.stochastic_rounding else TrainingProof(trained, model)
        clock = StepClock(state)
        with signals:
            while (
                not (stopping := processes.any(signals.came))
                and state.step < settings.steps
                and not control.ended
            ):
                trained.begin(state.step)
                if proof:
                    proof.begin(state.step)
                batch = control.stream.batch(state.step)
                gradient = stepper.gradient(batch)
                if gradient is None:
                    stepper.drop()
                    stopping = True
                    break
                size = sum(len(row.tokens) for row in batch)
                rate = settings.rate(state.step, state.tokens, size) * control.rate_factor
                anomaly = settings.anomalies.find(gradient.loss_nats, gradient.norm, state.losses)
                if anomaly is None:
                    stepper.apply(rate)
                    state.count(batch)
                    state.remember(gradient.loss_nats, settings.anomalies.window)
                    if average:
                        average.stepped(state.step)
                else:
                    stepper.drop()
                    _act_on(anomaly, batch, state, keeper, settings.anomalies, anomalies_file, progress)
                taken = clock.stepped()
                if proof:
                    proof.stepped(rate) if anomaly is None else proof.interrupted()
                record = _record(state, batch, gradient, rate, taken, anomaly) | control.record
                log.write(record)
                trackers.log(state.step, record)
                speed = record["tokens_per_second"]
                progress.update(
                    state.step,
                    settings.steps,
                    "step",
                    loss=gradient.loss_nats,
                    tokens_per_second=speed,
                    **state.latest,
                    **control.record,
                )
                watch.after_step()
                if control.after_probes():
                    keeper.remember(log)
                    if proof:
                        proof.interrupted()
                keeper.after_step(log)
            clock.stop()
            if control.ended and not stopping:
                watch.read_result()
                stopping = processes.any(signals.came)
            if stopping:
                keeper.save(log)
                processes.wait()
                name = signals.heed_others().name
                progress.message(f"{name}: saved after step {state.step}, and stopped")
    log.close()
    watch.close()
    trackers.close()
    if average:
        average.put_in_place()
    trained.release(model, work / "adapter" if processes.is_main else None)
    processes.close()
    return Result.of(state, control.stream, keeper.kept())


def _act_on(
    anomaly: Anomaly,
    batch: Sequence[PackedSequence],
    state: State,
    keeper: CheckpointManager,
    anomalies: Anomalies,
    file: Path | None,
    progress: Progress,
) -> None:
    """Leave the batch out, go back if that is wanted, and note it (in the main process's file); or stop."""
    step = state.step + 1
    event = {"step": step, **anomaly.as_json()}
    stops = anomaly.action == "stop" or len(state.anomalies) == anomalies.most
    if anomaly.action == "roll-back" and not stops:
        event["back_to"] = keeper.roll_back()
    if file:
        write_lines(file, [*state.anomalies, event])
    if stops:
        after = f", after {anomalies.most} skips and roll-backs" if anomaly.action != "stop" else ""
        raise StageFailed(
            f"{anomaly} at step {step}{after}",
            hint="Lower the peak learning rate, warm up longer, train in float32 (precision: fp32), or let "
            "`anomalies` skip such batches.",
        )
    state.drop(batch)
    state.anomalies.append(event)
    done = f"back to step {event['back_to']}" if "back_to" in event else "its gradient is dropped"
    progress.message(f"step {step}: {anomaly}; {done}")


def _record(
    state: State,
    batch: Sequence[PackedSequence],
    gradient: Gradient,
    rate: float,
    taken: float,
    anomaly: Anomaly | None,
) -> dict[str, Any]:
    """What the log says of a step."""
    record: dict[str, Any] = {
        "step": state.step,
        "tokens": state.tokens,
        "loss_nats": gradient.loss_nats,
        "lr": rate,
        "grad_norm": gradient.norm,
        "seconds": state.seconds,
        "tokens_per_second": sum(len(sequence.tokens) for sequence in batch) / taken,
        "sources": {source: counts["tokens"] for source, counts in state.counted.items()},
    }
    if gradient.parts:
        record["loss_parts"] = dict(gradient.parts)
    return record | ({"anomaly": anomaly.kind, "action": anomaly.action} if anomaly else {})


def _check_isolation(module: PackedLanguageModel, batch: Sequence[PackedSequence]) -> None:
    found = [piece for sequence in batch for piece in pieces(sequence) if len(piece) > 1]
    if len(found) > 1:
        check_isolation(module, found[0], found[1])


def prepare(model: Any, settings: Settings) -> None:
    """Have a model compute as the settings say; its weights are held already."""
    if settings.float8:
        to_float8(model)
    if settings.compile:
        _compile_elementwise(model)
    if settings.gradient_checkpointing:
        recompute_layers(model)


def _compile_elementwise(model: Any) -> None:
    """Compile what does not depend on how documents lie: feed-forward blocks and norms."""
    for name, part in model.named_modules():
        if name.endswith((".mlp", "norm")):
            part.compile(dynamic=True)
