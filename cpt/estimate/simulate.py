"""Simulation of a training step by the real code on tensors that have shapes but no content.

The model is built by its own class on PyTorch's fake tensors, and a step's allocations are recorded: any
architecture, attention, loss and precision is counted as it will run. Index tensors are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cpt.errors import CptError, StageFailed, UsageError
from cpt.estimate.allocations import Block, Recorder, Timeline
from cpt.estimate.devices import resident_bytes
from cpt.estimate.job import DOMAIN, MOST_DOCUMENTS, Job, Lengths
from cpt.estimate.sharded import FLOAT_BYTES, SimulatedShards, read_at_once
from cpt.estimate.simulated_model import (
    Weights,
    build,
    make_fake,
    mark_trainable,
    simulated_teacher,
    step,
    take_over,
)
from cpt.estimate.weight_update import averages, update_replica, update_shards
from cpt.models import attention, loss
from cpt.models.attention import bucketed_sdpa, cpu_blockwise, varlen
from cpt.models.batch import PackedBatch, pack
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.activation_checkpointing import checkpoint_layers
from cpt.training.data import pack_sequences, row_multiple
from cpt.training.distributed.collectives import buckets, is_small
from cpt.training.distributed.environment import ANY_CPU, Hardware
from cpt.training.feature import WeightBytes, total_memory
from cpt.training.features import features_of
from cpt.training.features.checkpoints import bytes_of_copies
from cpt.training.master_weights import Weights as MasterWeights
from cpt.training.objectives.reference_model import ReferenceModel
from cpt.training.optimizers.groups import Group, Shape
from cpt.training.settings import Settings
from cpt.training.trainable.parameters import TrainableParameters
from cpt.training.trainable.spec import TrainableSpec


@dataclass(frozen=True)
class HostMemory:
    """Bytes in the host memory of a run on GPUs, for all processes on one machine.

    Attributes:
        models: Float32 weights that are read at once before they go to the GPUs.
        kept: Frozen weights in float32 that the working precision cannot represent; averaged checkpoints.
        copies: Copies of weights and optimizer state, to be written or rolled back to.
    """

    models: int
    kept: int
    copies: int

    @property
    def peak(self) -> int:
        """Return the peak without the processes themselves: while models are read, or later."""
        return max(self.models, self.kept + self.copies)


@dataclass(frozen=True)
class Simulation:
    """Simulated memory of a run.

    Attributes:
        timeline: Blocks in the phases "load", "probe", "step", "update" and "save".
        weights: Numbers of weights.
        process_bytes: Memory of this process before, with all modules that training imports.
        host: Host memory of a run on GPUs.
    """

    timeline: Timeline
    weights: Weights
    process_bytes: int
    host: HostMemory


def simulate(job: Job, hardware: Hardware = ANY_CPU) -> Simulation:
    """Simulate the phases of a run whose memory could be its peak.

    Args:
        job: Run to simulate.
        hardware: Hardware of each process. It decides the attention backend; a GPU makes no copies for mixed
            types, and its host memory is counted separately.

    Raises:
        UsageError: A micro batch has too many documents.
        RecipeError: The model does not fit the settings of `trainable`.
        StageFailed: The model is no causal language model, or uses an operation that fake tensors do not
            support.
    """
    if not job.can_be_simulated:
        raise UsageError(
            f"a micro batch has {len(job.heaviest):,} documents; at most {MOST_DOCUMENTS:,} are simulated",
            hint="The estimate has this limit, not the training. Estimate with a smaller "
            "micro_batch_sequences: activations grow with it.",
        )
    timeline, settings = Timeline(), job.settings
    with explained(job.architecture), kernels_of(hardware), FakeTensorMode(allow_non_fake_inputs=True):
        with unset_fake_temporarily():
            with torch.device("meta"):
                model = build(job.architecture)
                reference = settings.config.objective.reference_model(model, simulated_teacher(job))
            spec = mark_trainable(model, settings)
        make_fake(model, *([reference.module] if reference else []))
        process_bytes = resident_bytes()
        words = model.get_input_embeddings().weight.shape
        recorder = Recorder(timeline, words, on_gpu=hardware.is_gpu)
        inputs = _Inputs(job, model, spec, recorder, timeline, reference)
        (_simulate_sharded if job.sharded else _simulate_replica)(inputs, on_gpu=hardware.is_gpu)
    return Simulation(timeline, inputs.weights, process_bytes, inputs.host)


@dataclass
class _Inputs:
    """Inputs of a simulation, and its results besides the timeline."""

    job: Job
    model: Any
    spec: TrainableSpec
    recorder: Recorder
    timeline: Timeline
    reference: ReferenceModel | None
    weights: Weights = field(init=False)
    host: HostMemory = field(init=False)

    def find(self, trained: TrainableParameters, state: int, kept: int, frozen: int) -> int:
        """Set the numbers of weights and the host memory; return the bytes of copies in the main process.

        Args:
            trained: Weights that train.
            state: Bytes of this process in checkpoints that do not exist at first: the optimizer's state, and
                points that gates may restore.
            kept: Other bytes of this process in checkpoints.
            frozen: Bytes of frozen weights in host memory.
        """
        self.weights = Weights.of(self.model, trained)
        many = self.job.processes
        is_model, writers = self.spec.is_model, self.job.shards  # of replicas one writes
        copies, others = (
            bytes_of_copies(self.job.settings, kept, state, is_model=is_model, writes=writes)
            for writes in (True, False)
        )
        self.host = HostMemory(
            models=many * read_at_once(self.model, self.spec, self.job),
            kept=many * frozen,
            copies=writers * copies + (many - writers) * others,
        )
        return copies


def _simulate_replica(inputs: _Inputs, *, on_gpu: bool) -> None:
    """Simulate a process that has the whole model."""
    job, model, recorder, timeline = inputs.job, inputs.model, inputs.recorder, inputs.timeline
    settings = job.settings
    with recorder:
        with timeline.moment("load"), recorder.filing_under("weights"):
            for each in (model, *([inputs.reference.module] if inputs.reference else [])):
                for tensor in (*each.parameters(), *each.buffers()):
                    recorder.enter(tensor)
            masters, trained = take_over(model, inputs.spec, settings)
            if inputs.reference:
                inputs.reference.prepare(settings.dtype, torch.device("cpu"))
        recorder.assign("optimizer", averages(trained))
        groups = trained.groups(model)
        state = _state_bytes(groups, settings)
        rounded = settings.dtype != torch.float32 and not settings.stochastic_rounding
        still = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        kept = sum(tensor.nbytes for tensor in trained.checkpoint_tensors.values())
        moved = sum(weight.nbytes for weight in trained.weights.values())
        features, more = total_memory(
            features_of(settings.config), WeightBytes(moved, kept, state, on_gpu=on_gpu)
        )
        frozen = more.host + (FLOAT_BYTES * still if rounded else 0)
        copies = inputs.find(trained, state + more.saved_later, kept + more.saved, frozen)
        timeline.allocate(state, "optimizer")
        for part, size in features.items():
            timeline.allocate(size, part)
        if not on_gpu:
            timeline.allocate(copies, "checkpoint")
        module = PackedLanguageModel(model)
        if job.probe:
            with timeline.moment("probe"):
                shown = timeline.allocate(more.probing, "weights")
                module.per_token_loss(_batch(job.probe))
                timeline.release(shown)
        if settings.config.gradient_checkpointing:
            checkpoint_layers(model)
        loss = settings.config.objective.loss(inputs.reference)
        sub_batches = _sub_batches(job)
        for source, lengths in sub_batches.items():
            for weight in masters.weights.values():
                weight.grad = None
            with timeline.moment("step"):
                several = job.accumulation > 1 or len(sub_batches) > 1
                row = _row(source, lengths)
                total, batch = partial(loss, rows=[row]), _micro_batch(row, on_gpu=on_gpu)
                step(module, masters, trained, batch, recorder, loss=total, accumulates=several)
                if job.processes > 1:
                    _sum(masters)
        with timeline.moment("update"):
            update_replica(trained, groups, settings, job.processes, recorder, timeline)
        for weight in (*masters.weights.values(), *trained.weights.values()):
            weight.grad = None
        with timeline.moment("save"), recorder.filing_under("weights"):
            masters.restore_model(model)
            if inputs.spec.adapter:
                inputs.spec.adapter.merge()


def _simulate_sharded(inputs: _Inputs, *, on_gpu: bool) -> None:
    """Simulate a process that has a part of the weights."""
    job, model, recorder, timeline = inputs.job, inputs.model, inputs.recorder, inputs.timeline
    settings, count = job.settings, job.shards
    width = settings.dtype.itemsize if settings.stochastic_rounding else FLOAT_BYTES
    read = _sharded_reference(inputs)
    masters = SimulatedShards(model, settings.dtype, count, width)
    trained = TrainableParameters(inputs.spec, masters)
    trained.begin_step(trained.first_steps)
    with recorder:
        with timeline.moment("load"):
            others = [inputs.reference.module] if inputs.reference else []
            for each in (model, *others):
                for buffer in each.buffers():
                    recorder.enter(buffer, "weights")
            masters.enter(recorder, timeline)
            rows = FLOAT_BYTES * masters.numbers(
                weight for name, weight in trained.weights.items() if name not in masters.weights
            )
            timeline.allocate(rows, "weights")
            ranks = sum(tensor.nbytes for tensor in averages(trained).values())
            timeline.allocate(ranks, "optimizer")
            if read:
                read.enter(recorder, timeline)
                read.gather_rest(timeline)  # for the whole run: see `prepare_reference`
        groups, features = trained.groups(model), features_of(settings.config)
        state = _state_bytes(groups, settings, masters.shard)
        own = width * masters.numbers(trained.weights.values())
        held, more = total_memory(features, WeightBytes(own, own + ranks, state))
        copies = inputs.find(trained, state + more.saved_later, own + ranks + more.saved, 0)
        for part, size in held.items():
            timeline.allocate(size, part)
        timeline.allocate(state, "optimizer")
        if not on_gpu:
            timeline.allocate(copies, "checkpoint")
        module = PackedLanguageModel(model)
        if job.probe:
            with timeline.moment("probe"):
                blocks = [masters.gather_rest(timeline), masters.gather_layers(timeline)]
                blocks.append(timeline.allocate(more.probing, "weights"))
                module.per_token_loss(_batch(job.probe))
                _release(timeline, blocks)
        if settings.config.gradient_checkpointing:
            checkpoint_layers(model)
        loss = settings.config.objective.loss(inputs.reference)
        several = job.accumulation > 1 or len(_sub_batches(job)) > 1
        once, shards = several and settings.config.gradient_sync == "last", list[Block]()
        for number, (source, lengths) in enumerate(_sub_batches(job).items()):
            with timeline.moment("step"):
                _release(timeline, shards)
                whole = masters.accumulated(timeline) if once else []
                blocks = [masters.gather_rest(timeline), masters.gather_layers(timeline)]
                if read:
                    blocks.append(read.gather_layers(timeline))
                if several and not number:
                    if not once:
                        masters.summed(timeline)
                    timeline.allocate(rows, "gradients")
                row = _row(source, lengths)
                total, _ = loss(module, _micro_batch(row, on_gpu=on_gpu), [row])
                if not several:
                    timeline.allocate(rows, "gradients")
                first = once or not several
                shards = masters.differentiate(total, recorder, timeline, blocks, is_first=first, whole=whole)
                _release(timeline, blocks)
        with timeline.moment("update"):
            update_shards(masters, trained, settings, timeline)
        with timeline.moment("save"):
            masters.save(timeline)


def _sharded_reference(inputs: _Inputs) -> SimulatedShards | None:
    """Take over the reference model, which shares no weights with the one that trains."""
    job, reference = inputs.job, inputs.reference
    if reference is None:
        return None
    dtype = job.settings.dtype
    reference.prepare(dtype, torch.device("cpu"), shared=False)
    return SimulatedShards(reference.module.model, dtype, job.shards, dtype.itemsize)


def _release(timeline: Timeline, blocks: Sequence[Block]) -> None:
    for block in blocks:
        timeline.release(block)


def _sub_batches(job: Job) -> Mapping[str, Lengths]:
    """Return the document lengths of the sub-batches that the model reads one after the other, by source."""
    if job.settings.config.objective.kind == "self-constraint":
        return job.sub_batches
    return {DOMAIN: job.heaviest}


def _state_bytes(
    groups: Sequence[Group], settings: Settings, shard: Callable[[Shape], Shape] = lambda shape: shape
) -> int:
    shapes = [(group.kind, shard(tuple(w.shape))) for group in groups for w in group.weights.values()]
    return settings.config.optimizer.predicted_state_bytes(shapes)


def _sum(masters: MasterWeights) -> None:
    """Concatenate small gradients, as for the sum over all processes."""
    gradients = [weight.grad for weight in masters.weights.values() if weight.grad is not None]
    for bucket in buckets(gradients):
        if small := [gradient.flatten() for gradient in bucket if is_small(gradient)]:
            torch.cat(small)


def _batch(lengths: Lengths) -> PackedBatch:
    with unset_fake_temporarily():
        return pack([np.zeros(length, dtype=np.int64) for length in lengths])


def _micro_batch(row: Any, *, on_gpu: bool) -> PackedBatch:
    with unset_fake_temporarily():
        return pack_sequences([row], row_multiple(on_gpu=on_gpu))


def _row(source: str, lengths: Lengths) -> Any:
    """Return a sequence of documents of these lengths."""
    tokens = np.zeros(sum(lengths), dtype=np.int64)
    targets = float(len(tokens) - len(lengths))
    return SimpleNamespace(
        source=source, tokens=tokens, piece_lengths=np.array(lengths), weights=None, target_weight=targets
    )


@contextmanager
def explained(architecture: Any) -> Iterator[None]:
    """Turn any error of a model's code into one that names the architecture.

    Raises:
        StageFailed: The block raised an error that is no `CptError`.
    """
    try:
        yield
    except CptError:
        raise
    except Exception as error:  # a model's code may raise any error
        raise StageFailed(
            f"the memory of {type(architecture).__name__} cannot be told without training: "
            f"{type(error).__name__}: {error}",
            hint="Only causal language models can be trained. If it is one, please report this.",
        ) from error


@contextmanager
def kernels_of(hardware: Hardware) -> Iterator[None]:
    """Use the hardware's attention backend and its chunks of logits, although fake tensors are on a CPU."""

    def backend(query: torch.Tensor) -> Callable[..., torch.Tensor]:
        if not hardware.is_gpu:
            return cpu_blockwise.attend
        return varlen.attend if varlen.takes(query, hardware.capability) else bucketed_sdpa.attend

    before = attention._backend, loss.on_gpu, loss._adds_products, loss._add_wide
    attention._backend = backend
    if hardware.is_gpu:  # which adds products to a gradient without other memory
        loss.on_gpu, loss._adds_products = (lambda _: True), (lambda *_: True)  # type: ignore[assignment]
        loss._add_wide = lambda *_: None
    try:
        yield
    finally:
        attention._backend, loss.on_gpu, loss._adds_products, loss._add_wide = before
