"""A step of the real training code on tensors that have shapes but no content.

The model is built by its own class on PyTorch's fake tensors, and what a step allocates and releases is
written down: so any architecture, attention, loss and precision is counted as it will run, without its
weights, within seconds. Index tensors, which decide shapes, are real.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cpt.errors import CptError, StageFailed
from cpt.estimate.job import Job, Lengths
from cpt.estimate.optimizer_state import state_bytes_of
from cpt.estimate.process import resident_bytes
from cpt.estimate.recorder import Recorder
from cpt.estimate.timeline import Timeline
from cpt.packed import attention
from cpt.packed.batch import PackedBatch, pack
from cpt.packed.model import PackedLanguageModel
from cpt.training.groups import group_weights
from cpt.training.master import MasterWeights


@dataclass(frozen=True)
class Weights:
    """How many weights a model has.

    Attributes:
        total: all of them.
        multiplied: those that a token is multiplied with; an input embedding that is not also the output
            embedding is only looked up.
        trained: those that train.
    """

    total: int
    multiplied: int
    trained: int

    @classmethod
    def of(cls, model: Any, master: MasterWeights) -> Weights:
        """Count the weights of a model and of its masters."""
        total = sum(parameter.numel() for parameter in model.parameters())
        words, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        looked_up = 0 if words is head else words.numel()
        return cls(total, total - looked_up, sum(weight.numel() for weight in master.weights.values()))


@dataclass(frozen=True)
class Rehearsal:
    """What a run would allocate.

    Attributes:
        timeline: in the moments "load", "probe", "step" and "save".
        process_bytes: what this process held before, with everything imported that training needs.
    """

    timeline: Timeline
    weights: Weights
    process_bytes: int


def rehearse(job: Job, *, on_gpu: bool = False) -> Rehearsal:
    """Go through the moments of a run whose memory could be its peak.

    Args:
        on_gpu: attention by the fused kernel for documents of every length, and no copies for mixed types.

    Raises:
        StageFailed: the model is no causal language model, or does something that fake tensors cannot.
    """
    timeline = Timeline()
    with FakeTensorMode(allow_non_fake_inputs=True), _attention_of(on_gpu), _explained(job.architecture):
        model = build(job.architecture)
        process_bytes = resident_bytes()
        recorder = Recorder(timeline, model.get_input_embeddings().weight.shape, casts=not on_gpu)
        with recorder:
            with timeline.moment("load"), recorder.filing_under("weights"):
                for tensor in (*model.parameters(), *model.buffers()):
                    recorder.enter(tensor)
                master = MasterWeights(model, job.dtype)
            groups = group_weights(model, master.weights)
            shapes = [(group.kind, tuple(w.shape)) for group in groups for w in group.weights.values()]
            timeline.allocate(state_bytes_of(job.optimizer, shapes), "optimizer")
            module = PackedLanguageModel(model)
            if job.probe:
                with timeline.moment("probe"):
                    module.token_nats(_batch(job.probe))
            with timeline.moment("step"):
                step(module, master, _batch(job.heaviest), recorder, accumulates=job.accumulation > 1)
            for weight in master.weights.values():
                weight.grad = None
            with timeline.moment("save"), recorder.filing_under("weights"):
                master.release(model)
    return Rehearsal(timeline, Weights.of(model, master), process_bytes)


def step(
    module: PackedLanguageModel,
    master: MasterWeights,
    batch: PackedBatch,
    recorder: Recorder,
    *,
    accumulates: bool,
) -> None:
    """The gradient of one micro batch.

    Args:
        accumulates: the masters hold the gradient of an earlier micro batch of the same step.
    """
    hooks = [
        parameter.register_post_accumulate_grad_hook(lambda p: recorder.enter(p.grad, "gradients"))
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    if accumulates:
        for weight in master.weights.values():
            weight.grad = torch.empty_like(weight)
        recorder.assign("gradients", {name: w.grad for name, w in master.weights.items()})
    (module(batch) / batch.targets).backward()
    master.collect()
    recorder.assign("gradients", {name: w.grad for name, w in master.weights.items()})
    for hook in hooks:
        hook.remove()


def build(architecture: Any) -> Any:
    """A model with random float32 weights, attending within documents."""
    from transformers import AutoModelForCausalLM

    attention.register()
    model: nn.Module = AutoModelForCausalLM.from_config(
        architecture, attn_implementation=attention.NAME, dtype=torch.float32, trust_remote_code=False
    )
    return model.eval()


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
def _attention_of(gpu: bool) -> Iterator[None]:
    """Attend as the device does: only on a CPU are short documents attended by explicit products."""
    before = attention._PRODUCTS_UP_TO
    attention._PRODUCTS_UP_TO = 0 if gpu else before
    try:
        yield
    finally:
        attention._PRODUCTS_UP_TO = before
