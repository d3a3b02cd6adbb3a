"""Build the model of a simulated or measured run, and count its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from cpt.estimate.allocations import Recorder
from cpt.estimate.job import Job
from cpt.models import attention
from cpt.models.batch import PackedBatch
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.master_weights import Weights as MasterWeights
from cpt.training.master_weights import prepare_local_weights
from cpt.training.objectives.reference_model import AlignedTeacher
from cpt.training.settings import Settings
from cpt.training.trainable import Setup
from cpt.training.trainable.parameters import TrainableParameters
from cpt.training.trainable.spec import TrainableSpec


def make_fake(*models: nn.Module) -> None:
    """Move models from the meta device to fake tensors on the CPU; shared tensors stay shared."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in (module for model in models for module in model.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter not in made:
                empty = torch.empty_like(parameter, device="cpu")
                made[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module._parameters[name] = None if parameter is None else made[parameter]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else torch.empty_like(buffer, device="cpu")


@dataclass(frozen=True)
class Weights:
    """Numbers of weights of a model.

    Attributes:
        total: All weights.
        multiplied: Weights in matrix products; an input embedding that is not tied is only looked up.
        trained: Weights that train.
        layers: Number of layers, with added ones.
    """

    total: int
    multiplied: int
    trained: int
    layers: int

    @classmethod
    def of(cls, model: Any, trained: TrainableParameters) -> Weights:
        """Count the weights of a model and those that train."""
        total = sum(parameter.numel() for parameter in model.parameters())
        words, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        looked_up = 0 if words is head else words.numel()
        layers = model.config.get_text_config().num_hidden_layers
        return cls(total, total - looked_up, sum(map(trained.size, trained.weights)), layers)


def mark_trainable(model: Any, settings: Settings) -> TrainableSpec:
    """Mark the weights of a float32 model that train."""
    return settings.config.trainable.apply(model, Setup(settings.steps, settings.new_tokens, settings.seed))


def take_over(
    model: Any, spec: TrainableSpec, settings: Settings
) -> tuple[MasterWeights, TrainableParameters]:
    """Take over a float32 model's weights as the loop does, in the first step in which all of them move."""
    masters = prepare_local_weights(model, settings)
    trained = TrainableParameters(spec, masters)
    trained.begin_step(trained.first_steps)
    return masters, trained


def step(
    module: PackedLanguageModel,
    masters: MasterWeights,
    trained: TrainableParameters,
    batch: PackedBatch,
    recorder: Recorder,
    *,
    accumulates: bool,
    loss: Callable[[PackedLanguageModel, PackedBatch], tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> None:
    """Compute the gradient of one micro batch.

    Args:
        module, batch: Model and micro batch.
        masters: Master weights of the model.
        trained: Weights that train.
        recorder: Recorder of the allocations.
        accumulates: True if the weights have the gradient of an earlier micro batch of the same step.
        loss: Loss; plain cross entropy by default.
    """
    hooks = [
        parameter.register_post_accumulate_grad_hook(lambda p: recorder.enter(p.grad, "gradients"))
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    if accumulates:
        for weight in masters.weights.values():
            weight.grad = torch.empty_like(weight, dtype=torch.float32)
        recorder.assign("gradients", {name: w.grad for name, w in masters.weights.items()})
    total = loss(module, batch)[0] if loss else module(batch)
    (total / batch.targets).backward()
    trained.accumulate_grads()
    recorder.assign("gradients", {name: w.grad for name, w in masters.weights.items()})
    trained.mask_grads()
    for hook in hooks:
        hook.remove()


def build(architecture: Any) -> Any:
    """Return a model with random float32 weights and attention within documents."""
    from transformers import AutoModelForCausalLM

    attention.register()
    model: nn.Module = AutoModelForCausalLM.from_config(
        copy.deepcopy(architecture),  # training may change it
        attn_implementation=attention.NAME,
        dtype=torch.float32,
        trust_remote_code=False,
    )
    return model.eval()


def simulated_teacher(job: Job) -> Any:
    """Return a teacher of the size of its student, which makes the same tokens of a text."""
    objective = job.settings.config.objective
    if not objective.needs_teacher:
        return None
    model = build(job.architecture)
    return AlignedTeacher(model, _SameTokens()) if objective.kind == "alm" else model


class _SameTokens:
    """Alignments in which each token is a chunk."""

    student_boundaries = teacher_boundaries = np.zeros(1, dtype=np.int64)

    def align(self, documents: Sequence[np.ndarray]) -> list[Any]:
        ends = [np.arange(1, len(document) + 1) for document in documents]
        return [
            SimpleNamespace(
                ids=document,
                student_ends=each,
                teacher_ends=each,
                usable=np.ones(len(each), dtype=bool),
                special=np.zeros(len(each), dtype=bool),
            )
            for document, each in zip(documents, ends, strict=True)
        ]
