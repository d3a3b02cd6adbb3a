"""Train a model: the loop, readable from top to bottom.

A step takes its global batch, accumulates the gradient of the mean loss over micro batches, clips it, sets
the rate and applies it. Everything else that a run does is a feature (`cpt.training.features`), which the
loop calls before the first step, around each step, and after the last one. It calls some features by name:
those that decide whether a gradient is applied, what is read next, and when the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.models.attention import choose_kernel
from cpt.models.packed_model import PackedLanguageModel
from cpt.models.unloaded_model import is_unloaded
from cpt.monitor.probes.base import Probe
from cpt.progress import Progress
from cpt.training.activation_checkpointing import checkpoint_layers
from cpt.training.checkpoint.kept_optimizer import read_kept_optimizer
from cpt.training.checkpoint.stateful import OptimizerState, WeightState
from cpt.training.clock import StepClock
from cpt.training.compilation import compilation, compile_layers, compiles_here
from cpt.training.data import Stream
from cpt.training.distributed.agreement import (
    require_equal_replicas,
    require_same_rows,
    require_same_settings,
    require_same_weights,
)
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.environment import grow_segments
from cpt.training.distributed.loading import check_shards
from cpt.training.distributed.sharding import prepare_reference, prepare_weights
from cpt.training.feature import Run, StepOutcome
from cpt.training.features import features_of
from cpt.training.features.anomalies import AnomalyHandler
from cpt.training.features.checkpoints import CheckpointManager
from cpt.training.features.gate_controller import GateController
from cpt.training.features.input_noise import InputNoise
from cpt.training.features.probe_runner import ProbeRunner
from cpt.training.float8 import to_float8
from cpt.training.objectives.reference_model import ReferenceModel
from cpt.training.optimizers.matrices import MatrixOptimizer
from cpt.training.settings import Settings
from cpt.training.state import Result, State
from cpt.training.step import Stepper
from cpt.training.stopping import HeldSignals
from cpt.training.trainable import Setup
from cpt.training.trainable.parameters import ADAPTER, TrainableParameters
from cpt.training.trainable.summary import table


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

    On several processes (`cpt.training.distributed.context`) all of them call this alike; the main one
    writes.

    The model stays in evaluation mode: continual pretraining does without dropout, as pretraining did.
    Ctrl-C and SIGTERM end the micro batch, and the step if it was the last of it, else that step is dropped;
    a checkpoint is saved, and then they do what they did before.

    Args:
        model: causal language model whose attention is `cpt.models.attention`, float32 weights before and
            after. If weights are sharded, it may be without values (`unloaded_model`); afterwards it is of no
            use, and the trained model is in `work / "model"`, without a tokenizer.
        probes: probes that are read during the training.
        work: folder for checkpoints, `steps.jsonl`, `probes.jsonl` and `anomalies.jsonl`; it survives a kill.
        teacher: float32 model for an objective that names one, which may be without values as `model`; for
            `alm` an `AlignedTeacher`.

    Raises:
        StageFailed: documents see each other, a parameter does not train, a loss is not finite, the
            ledger does not match what was trained on, the run in `work` began with other settings, or
            processes begin with other settings, weights or text than each other.
        DiskFull: a checkpoint does not fit on the disk.
    """
    run, reference = _prepare_run(model, stream, probes, settings, work, progress, teacher)
    processes, trained, state = run.processes, run.trained, run.state
    anomalies, probing = run.feature(AnomalyHandler), run.feature(ProbeRunner)
    gates, checkpoints = run.feature(GateController), run.feature(CheckpointManager)
    noise = run.find(InputNoise)
    for feature in run.features:
        feature.on_start(run)

    with checkpoints.open():
        checkpoints.resume()
        progress.message(table(trained, model))
        state.checked_ledger(gates.stream)
        if processes.count > 1 and state.step < settings.steps:
            require_same_rows(processes, gates.stream.batch(state.step))
        if kernel := choose_kernel(model, processes.device, settings.dtype):
            progress.message(kernel)
        compiles = compiles_here(model, settings, progress.message)
        for each in (model, *([reference.module.model] if reference else [])):
            prepare(each, settings, compiles=compiles)
        signals, loss = HeldSignals(), settings.config.objective.loss(reference)
        stepper = Stepper(run.module, trained, run.optimizer, processes, settings, loss, lambda: signals.came)
        for feature in run.features:
            feature.on_resume(run)
        clock = StepClock(state)
        with signals, compilation(of_passes=compiles and settings.on_gpu):
            while (
                not (stopping := processes.any(signals.came))
                and state.step < settings.steps
                and not gates.ended
            ):
                trained.begin_step(state.step)
                for feature in run.features:
                    feature.before_step(run)
                batch = gates.stream.batch(state.step)
                gradient = stepper.gradient(noise.rows(state.step, batch) if noise else batch)
                if gradient is None:
                    stepper.drop()
                    stopping = True
                    break
                size = sum(row.length for row in batch)
                rate = settings.rate(state.step, state.tokens, size) * gates.rate_factor
                anomaly = anomalies.find(gradient, state)
                if anomaly is None:
                    stepper.apply(rate)
                    state.count(batch)
                else:
                    stepper.drop()
                    anomalies.handle(run, anomaly, batch)
                step = StepOutcome(batch, gradient, rate, clock.stepped(), anomaly)
                for feature in run.features:
                    feature.after_step(run, step)
            clock.stop()
            if gates.ended and not stopping:
                probing.read_result(run)
                stopping = processes.any(signals.came)
            if stopping:
                checkpoints.save()
                processes.wait()
                name = signals.heed_others().name
                progress.message(f"{name}: saved after step {state.step}, and stopped")
    for feature in run.features:
        feature.on_end(run)
    if processes.count > 1:
        require_equal_replicas(processes, trained.weights, state.step)
    if processes.sharding:
        trained.write_shards(model, work, processes)
    else:
        trained.restore_model(model, work / ADAPTER if processes.is_main else None)
    processes.close()
    return Result.of(state, gates.stream, checkpoints.kept())


def _prepare_run(
    model: Any,
    stream: Stream,
    probes: Sequence[Probe],
    settings: Settings,
    work: Path,
    progress: Progress,
    teacher: Any,
) -> tuple[Run, ReferenceModel | None]:
    """Choose what trains, hold its weights, and build the optimizer; return the reference model as well."""
    config, processes = settings.config, ProcessGroup(distributed_context())
    require_same_settings(processes, settings.fixed_values())
    if settings.on_gpu:
        grow_segments()
    reference = config.objective.reference_model(model, teacher)
    choice = config.trainable.apply(model, Setup(settings.steps, settings.new_tokens, settings.seed))
    for each in (model, *([reference.module] if reference and teacher else [])):
        require_same_weights(processes, each)
    if settings.float8:
        for each in (model, *([reference.module.model] if reference else [])):
            to_float8(each)
    module = PackedLanguageModel(model)
    if processes.count > 1 and not processes.sharding:
        module.readers = processes
    if reference and processes.sharding:
        prepare_reference(reference, settings, processes)
    unloaded = is_unloaded(model)
    weights = prepare_weights(module, settings, processes)
    if unloaded:
        check_shards(module, settings.dtype, processes, choice.added_layers)
    trained = TrainableParameters(choice, weights)
    optimizer = config.optimizer.build(trained.groups(model))
    if isinstance(optimizer, MatrixOptimizer) and not processes.sharding:
        optimizer.replicas = processes
    trained.register_hooks(optimizer)
    trained.sync_to_model()
    if reference and not processes.sharding:
        prepare_reference(reference, settings, processes)
    state = OptimizerState(optimizer, trained.weights)
    if settings.optimizer_state is not None:
        state.load_state_dict(read_kept_optimizer(settings.optimizer_state, trained.weights))
    run = Run(
        settings=settings,
        model=model,
        module=module,
        choice=choice,
        trained=trained,
        optimizer=optimizer,
        stream=stream,
        probes=probes,
        state=State(),
        processes=processes,
        work=work,
        progress=progress,
        features=features_of(config),
        stateful={
            "weights": WeightState(trained.checkpoint_tensors, trained.sync_to_model),
            "optimizer": state,
        },
    )
    return run, reference


def prepare(model: Any, settings: Settings, *, compiles: bool) -> None:
    """Make a model compute as the settings ask; its weights are held already."""
    if compiles:
        compile_layers(model)
    if settings.config.gradient_checkpointing:
        checkpoint_layers(model)
