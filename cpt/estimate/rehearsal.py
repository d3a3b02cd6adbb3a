"""A step of the real training code on tensors that have shapes but no content.

The model is built by its own class on PyTorch's fake tensors, and what a step allocates and releases is
written down: so any architecture, attention, loss and precision is counted as it will run, without its
weights, within seconds. Index tensors, which decide shapes, are real.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cpt.errors import CptError, StageFailed, UsageError
from cpt.estimate.copies import bytes_of_copies
from cpt.estimate.divided import FLOAT_BYTES, DividedWeights
from cpt.estimate.fakes import make_fake
from cpt.estimate.job import MOST_DOCUMENTS, Job, Lengths
from cpt.estimate.points import Points
from cpt.estimate.process import resident_bytes
from cpt.estimate.recorder import Recorder
from cpt.estimate.regularised import Regularised
from cpt.estimate.timeline import Timeline
from cpt.models import attention
from cpt.models.attention import bucketed_sdpa, cpu_blockwise, varlen
from cpt.models.batch import PackedBatch, pack
from cpt.models.packed_model import PackedLanguageModel
from cpt.sources import DOMAIN
from cpt.training.groups import Group
from cpt.training.master import Weights as Held
from cpt.training.master import hold_weights
from cpt.training.objectives.beside import Beside
from cpt.training.optimizers import state_bytes_of
from cpt.training.optimizers.base import Shape
from cpt.training.place import PROCESSOR, Hardware
from cpt.training.processes import buckets
from cpt.training.recompute import recompute_layers
from cpt.training.settings import Settings
from cpt.training.trainable import Setup
from cpt.training.trainable.choice import Choice
from cpt.training.trainable.trained import Trained


@dataclass(frozen=True)
class Weights:
    """How many weights a model has.

    Attributes:
        total: all of them.
        multiplied: those that a token is multiplied with; an input embedding that is not also the output
            embedding is only looked up.
        trained: those that train.
        layers: of the model, with those that were added to train.
    """

    total: int
    multiplied: int
    trained: int
    layers: int

    @classmethod
    def of(cls, model: Any, trained: Trained) -> Weights:
        """Count the weights of a model and those that train."""
        total = sum(parameter.numel() for parameter in model.parameters())
        words, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        looked_up = 0 if words is head else words.numel()
        layers = model.config.get_text_config().num_hidden_layers
        return cls(total, total - looked_up, sum(map(trained.size, trained.weights)), layers)


@dataclass(frozen=True)
class HostMemory:
    """Bytes in main memory of a run on GPUs, of all processes of one machine that has them all.

    Attributes:
        models: float32 models that are read before they go to the GPUs.
        kept: frozen weights in float32, which working precision cannot hold; checkpoints that are averaged.
        copies: of weights and optimizer state, to be written or rolled back to.
    """

    models: int
    kept: int
    copies: int

    @property
    def peak(self) -> int:
        """The most, besides the processes themselves: while models are read, or later."""
        return max(self.models, self.kept + self.copies)


@dataclass(frozen=True)
class Rehearsal:
    """What a run would allocate.

    Attributes:
        timeline: in the moments "load", "probe", "step", "update" and "save".
        process_bytes: what this process held before, with everything imported that training needs.
        host: on GPUs what of a run is in the main memory of their machine.
    """

    timeline: Timeline
    weights: Weights
    process_bytes: int
    host: HostMemory


def rehearse(job: Job, hardware: Hardware = PROCESSOR) -> Rehearsal:
    """Go through the moments of a run whose memory could be its peak.

    Args:
        hardware: decides the way of attending; a GPU makes no copies for mixed types, and has none of what is
            kept in host memory.

    Raises:
        UsageError: a micro batch has too many documents.
        RecipeError: the model does not go with the settings of what trains.
        StageFailed: the model is no causal language model, or does something that fake tensors cannot.
    """
    if not job.can_be_rehearsed:
        raise UsageError(
            f"a micro batch has {len(job.heaviest):,} documents; at most {MOST_DOCUMENTS:,} are simulated",
            hint="The estimate has this limit, not the training. Estimate with a smaller "
            "micro_batch_sequences: activations grow with it.",
        )
    timeline, settings = Timeline(), job.settings
    with _explained(job.architecture), _attention_of(hardware), FakeTensorMode(allow_non_fake_inputs=True):
        with unset_fake_temporarily():
            with torch.device("meta"):
                model = build(job.architecture)
                teacher = build(job.architecture) if settings.objective.kind == "self-distillation" else None
            beside = settings.objective.beside(model, teacher)
            choice = choose(model, settings)
        make_fake(model, *([beside.module] if beside else []))
        process_bytes = resident_bytes()
        words = model.get_input_embeddings().weight.shape
        recorder = Recorder(timeline, words, on_gpu=hardware.is_gpu)
        scene = _Scene(job, model, choice, recorder, timeline, beside)
        (_play_divided if job.divided else _play)(scene, on_gpu=hardware.is_gpu)
    return Rehearsal(timeline, scene.weights, process_bytes, scene.host)


@dataclass
class _Scene:
    """What a rehearsal is made of, and what it finds out besides the timeline."""

    job: Job
    model: Any
    choice: Choice
    recorder: Recorder
    timeline: Timeline
    beside: Beside | None
    weights: Weights = field(init=False)
    host: HostMemory = field(init=False)

    def find(self, trained: Trained, state: int, kept: int, frozen: int) -> int:
        """Note the weights and the host's memory; returns the bytes of copies in the process that writes.

        Args:
            state: bytes of what checkpoints hold that is not there at first: the optimizer's whole state, and
                points that gates go back to.
            kept: bytes of what checkpoints hold besides.
            frozen: bytes of weights that are kept in main memory beside the model.
        """
        self.weights = Weights.of(self.model, trained)
        told = {"is_model": self.choice.is_model, "divided": self.job.divided}
        copies, others = (
            bytes_of_copies(self.job.settings, kept, state, **told, writes=writes) for writes in (True, False)
        )
        many = self.job.processes
        self.host = HostMemory(
            models=many * FLOAT_BYTES * self.weights.total,
            kept=many * frozen,
            copies=copies + (many - 1) * others,
        )
        return copies


def _play(scene: _Scene, *, on_gpu: bool) -> None:
    """Every process has the whole model."""
    job, model, recorder, timeline = scene.job, scene.model, scene.recorder, scene.timeline
    settings = job.settings
    with recorder:
        with timeline.moment("load"), recorder.filing_under("weights"):
            others = [scene.beside.module] if scene.beside else []
            for each in (model, *others):
                for tensor in (*each.parameters(), *each.buffers()):
                    recorder.enter(tensor)
            held, trained = hold(model, scene.choice, settings)
            if scene.beside:
                scene.beside.hold(settings.dtype, torch.device("cpu"))
        state = _state_bytes(trained.groups(model), settings)
        rounded = settings.dtype != torch.float32 and not settings.stochastic_rounding
        still = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        regular = Regularised.of(settings, sum(weight.nbytes for weight in trained.weights.values()))
        kept = sum(tensor.nbytes for tensor in trained.kept.values()) + regular.average
        points = Points.of(settings.gates)
        gone_back_to = points.bytes(kept, state)
        in_main_memory = regular.aside if on_gpu else 0
        set_aside = points.bytes(in_main_memory, 0)
        frozen = in_main_memory + set_aside + (FLOAT_BYTES * still if rounded else 0)
        copies = scene.find(trained, state + gone_back_to, kept, frozen)
        timeline.allocate(state, "optimizer")
        timeline.allocate(gone_back_to - set_aside, "gates")
        timeline.allocate(regular.held(on_gpu), "weights")
        if not on_gpu:
            timeline.allocate(copies, "checkpoint")
        module = PackedLanguageModel(model)
        if job.probe:
            with timeline.moment("probe"):
                shown = timeline.allocate(regular.shown(on_gpu), "weights")
                module.token_nats(_batch(job.probe))
                timeline.release(shown)
        if settings.gradient_checkpointing:
            recompute_layers(model)
        loss = settings.objective.loss(scene.beside)
        lots = job.lots if settings.objective.kind == "self-constraint" else {DOMAIN: job.heaviest}
        for source, lengths in lots.items():
            for weight in held.weights.values():
                weight.grad = None
            with timeline.moment("step"):
                several = job.accumulation > 1 or len(lots) > 1
                total = partial(loss, rows=[SimpleNamespace(source=source)])
                step(module, held, trained, _batch(lengths), recorder, loss=total, accumulates=several)
                if job.processes > 1:
                    _sum(held)
        if settings.stochastic_rounding:
            with timeline.moment("update"), recorder.filing_under("weights"):
                _round(trained)
        for weight in (*held.weights.values(), *trained.weights.values()):
            weight.grad = None
        with timeline.moment("save"), recorder.filing_under("weights"):
            held.release(model)
            if scene.choice.adapter:
                scene.choice.adapter.merge()


def _play_divided(scene: _Scene, *, on_gpu: bool) -> None:
    """Every process has a part of the weights."""
    job, model, recorder, timeline = scene.job, scene.model, scene.recorder, scene.timeline
    held = DividedWeights(model, job.settings.dtype, job.processes)
    trained = Trained(scene.choice, held)
    with recorder:
        with timeline.moment("load"):
            for buffer in model.buffers():
                recorder.enter(buffer, "weights")
            held.enter(recorder, timeline)
        groups = trained.groups(model)
        whole = FLOAT_BYTES * sum(weight.numel() for weight in held.weights.values())
        kept = whole + Regularised.of(job.settings, whole).average
        copies = scene.find(trained, _state_bytes(groups, job.settings), kept, 0)
        regular = Regularised.of(job.settings, held.trained_bytes)
        timeline.allocate(regular.l2_sp + regular.average, "weights")
        timeline.allocate(_state_bytes(groups, job.settings, held.shard), "optimizer")
        if not on_gpu:
            timeline.allocate(copies, "checkpoint")
        module = PackedLanguageModel(model)
        for moment, lengths in (("probe", job.probe), ("step", job.heaviest)):
            if not lengths:
                continue
            with timeline.moment(moment):
                gathered = held.gathered(timeline)
                if moment == "probe":
                    gathered.append(timeline.allocate(regular.shown(False), "weights"))
                if moment == "probe":
                    module.token_nats(_batch(lengths))
                else:
                    if job.accumulation > 1:
                        held.summed(timeline)
                    loss = module(_batch(lengths))
                    if job.accumulation == 1:
                        held.summed(timeline)
                    held.differentiate(loss, recorder, timeline)
                for block in gathered:
                    timeline.release(block)
        with timeline.moment("save"):
            held.save(timeline)


def choose(model: Any, settings: Settings) -> Choice:
    """Choose what of a float32 model trains."""
    return settings.trainable.choose(model, Setup(settings.steps, settings.new_tokens, settings.seed))


def hold(model: Any, choice: Choice, settings: Settings) -> tuple[Held, Trained]:
    """Hold a float32 model's weights as the loop does, in the first step in which all that trains moves."""
    held = hold_weights(model, settings)
    trained = Trained(choice, held)
    trained.begin(trained.alone)
    return held, trained


def step(
    module: PackedLanguageModel,
    held: Held,
    trained: Trained,
    batch: PackedBatch,
    recorder: Recorder,
    *,
    accumulates: bool,
    loss: Callable[[PackedLanguageModel, PackedBatch], tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> None:
    """The gradient of one micro batch.

    Args:
        loss: plain cross entropy by default.
        accumulates: the weights have the gradient of an earlier micro batch of the same step.
    """
    hooks = [
        parameter.register_post_accumulate_grad_hook(lambda p: recorder.enter(p.grad, "gradients"))
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    if accumulates:
        for weight in held.weights.values():
            weight.grad = torch.empty_like(weight, dtype=torch.float32)
        recorder.assign("gradients", {name: w.grad for name, w in held.weights.items()})
    total = loss(module, batch)[0] if loss else module(batch)
    (total / batch.targets).backward()
    trained.collect()
    recorder.assign("gradients", {name: w.grad for name, w in held.weights.items()})
    trained.restrict()
    for hook in hooks:
        hook.remove()


def build(architecture: Any) -> Any:
    """A model with random float32 weights, attending within documents."""
    from transformers import AutoModelForCausalLM

    attention.register()
    model: nn.Module = AutoModelForCausalLM.from_config(
        copy.deepcopy(architecture),  # training may change it
        attn_implementation=attention.NAME,
        dtype=torch.float32,
        trust_remote_code=False,
    )
    return model.eval()


def _state_bytes(
    groups: Sequence[Group], settings: Settings, shard: Callable[[Shape], Shape] = lambda shape: shape
) -> int:
    shapes = [(group.kind, shard(tuple(w.shape))) for group in groups for w in group.weights.values()]
    return state_bytes_of(settings.optimizer, shapes)


def _sum(held: Held) -> None:
    """Lay gradients side by side, as they are when they are summed over all processes."""
    gradients = [weight.grad for weight in held.weights.values() if weight.grad is not None]
    for bucket in buckets(gradients):
        torch.cat([gradient.flatten() for gradient in bucket])


def _round(trained: Trained) -> None:
    """Widen the weights, and round them by chance, around the plainest of steps."""
    optimizer = torch.optim.SGD(trained.weights.values(), lr=0.0, foreach=False)
    trained.attach(optimizer)
    optimizer.step()


def _batch(lengths: Lengths) -> PackedBatch:
    with unset_fake_temporarily():
        return pack([np.zeros(length, dtype=np.int64) for length in lengths])


@contextmanager
def _explained(architecture: Any) -> Iterator[None]:
    try:
        yield
    except CptError:
        raise
    except Exception as error:  # a model's code raises whatever it likes
        raise StageFailed(
            f"the memory of {type(architecture).__name__} cannot be told without training: "
            f"{type(error).__name__}: {error}",
            hint="Only causal language models can be trained. If it is one, please report this.",
        ) from error


@contextmanager
def _attention_of(hardware: Hardware) -> Iterator[None]:
    """Attend as the hardware does: on a processor by explicit products, on a GPU by its kernel."""

    def way(query: torch.Tensor) -> Callable[..., torch.Tensor]:
        if not hardware.is_gpu:
            return cpu_blockwise.attend
        return varlen.attend if varlen.takes(query, hardware.capability) else bucketed_sdpa.attend

    before = attention._way
    attention._way = way
    try:
        yield
    finally:
        attention._way = before
