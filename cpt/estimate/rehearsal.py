"""A step of the real training code on tensors that have shapes but no content.

The model is built by its own class on PyTorch's fake tensors, and what a step allocates and releases is
written down: so any architecture, attention, loss and precision is counted as it will run, without its
weights, within seconds. Index tensors, which decide shapes, are real.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cpt.errors import CptError, StageFailed
from cpt.estimate.copies import bytes_of_copies
from cpt.estimate.job import Job, Lengths
from cpt.estimate.process import resident_bytes
from cpt.estimate.recorder import Recorder
from cpt.estimate.timeline import Timeline
from cpt.packed import attention
from cpt.packed.attention import grouped
from cpt.packed.batch import PackedBatch, pack
from cpt.packed.model import PackedLanguageModel
from cpt.training.master import Weights as Held
from cpt.training.master import hold_weights
from cpt.training.optimizers import state_bytes_of
from cpt.training.recompute import recompute_layers
from cpt.training.settings import Settings
from cpt.training.trains import Setup
from cpt.training.trains.choice import Choice
from cpt.training.trains.trained import Trained


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
class Rehearsal:
    """What a run would allocate.

    Attributes:
        timeline: in the moments "load", "probe", "step", "update" and "save".
        process_bytes: what this process held before, with everything imported that training needs.
    """

    timeline: Timeline
    weights: Weights
    process_bytes: int


def rehearse(job: Job, *, on_gpu: bool = False) -> Rehearsal:
    """Go through the moments of a run whose memory could be its peak.

    Args:
        on_gpu: attention by the fused kernel, no copies for mixed types, and none in host memory.

    Raises:
        RecipeError: the model does not go with the settings of what trains.
        StageFailed: the model is no causal language model, or does something that fake tensors cannot.
    """
    timeline, settings = Timeline(), job.settings
    with _explained(job.architecture), _attention_of(on_gpu), FakeTensorMode(allow_non_fake_inputs=True):
        with unset_fake_temporarily():
            with torch.device("meta"):
                model = build(job.architecture)
            choice = choose(model, settings)
        _make_fake(model)
        process_bytes = resident_bytes()
        recorder = Recorder(timeline, model.get_input_embeddings().weight.shape, on_gpu=on_gpu)
        with recorder:
            with timeline.moment("load"), recorder.filing_under("weights"):
                for tensor in (*model.parameters(), *model.buffers()):
                    recorder.enter(tensor)
                held, trained = hold(model, choice, settings)
            weights = Weights.of(model, trained)
            state = _state_bytes(model, trained, settings)
            timeline.allocate(state, "optimizer")
            if not on_gpu:
                kept = sum(tensor.nbytes for tensor in trained.kept.values())
                copies = bytes_of_copies(settings, kept, state, is_model=choice.is_model)
                timeline.allocate(copies, "checkpoint")
            module = PackedLanguageModel(model)
            if job.probe:
                with timeline.moment("probe"):
                    module.token_nats(_batch(job.probe))
            if settings.gradient_checkpointing:
                recompute_layers(model)
            with timeline.moment("step"):
                step(module, held, trained, _batch(job.heaviest), recorder, accumulates=job.accumulation > 1)
            if settings.stochastic_rounding:
                with timeline.moment("update"), recorder.filing_under("weights"):
                    _round(trained)
            for weight in (*held.weights.values(), *trained.weights.values()):
                weight.grad = None
            with timeline.moment("save"), recorder.filing_under("weights"):
                held.release(model)
                if choice.adapter:
                    choice.adapter.merge()
    return Rehearsal(timeline, weights, process_bytes)


def choose(model: Any, settings: Settings) -> Choice:
    """Choose what of a float32 model trains."""
    return settings.trains.choose(model, Setup(settings.steps, settings.new_tokens, settings.seed))


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
) -> None:
    """The gradient of one micro batch.

    Args:
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
    (module(batch) / batch.targets).backward()
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


def _make_fake(model: nn.Module) -> None:
    """Put a model from the meta device onto the CPU, on fake tensors; what is shared stays shared."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter not in made:
                empty = torch.empty_like(parameter, device="cpu")
                made[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module._parameters[name] = None if parameter is None else made[parameter]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else torch.empty_like(buffer, device="cpu")


def _state_bytes(model: Any, trained: Trained, settings: Settings) -> int:
    groups = trained.groups(model)
    shapes = [(group.kind, tuple(w.shape)) for group in groups for w in group.weights.values()]
    return state_bytes_of(settings.optimizer, shapes)


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


def _fused(query: torch.Tensor) -> Callable[..., torch.Tensor]:  # noqa: ARG001
    return grouped.attend


@contextmanager
def _attention_of(gpu: bool) -> Iterator[None]:
    """Attend as the device does: only on a CPU by explicit products."""
    before = attention._way
    if gpu:
        attention._way = _fused
    try:
        yield
    finally:
        attention._way = before
