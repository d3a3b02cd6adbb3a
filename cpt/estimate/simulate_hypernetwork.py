"""Simulation of a hypernetwork's training step by the real code on tensors without content.

As in `cpt.estimate.simulate`; the texts and the pieces of tokens, which decide shapes, are made up and real.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cpt.estimate.allocations import Recorder, Timeline
from cpt.estimate.devices import resident_bytes
from cpt.estimate.simulate import explained, kernels_of
from cpt.estimate.simulated_model import build, make_fake
from cpt.models.batch import PackedBatch, pack
from cpt.training.distributed.environment import Hardware
from cpt.training.optimizers.base import adamw_bytes
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms
from tokenizer_tools.hypernetwork.training.backbone import ReplacedEmbeddings, TrainedBackbone
from tokenizer_tools.hypernetwork.training.batches import Batch
from tokenizer_tools.hypernetwork.training.gradients import Gradients, parameters_of
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkSimulation:
    """Simulated memory of a hypernetwork's training.

    Attributes:
        timeline: Blocks in the phases "load" and "step".
        process_bytes: Memory of this process before, with all modules that training imports.
        widths: Width of the source rows by role.
        source: Number of source tokens.
        body: Number of the model's weights without its embeddings.
        network: Number of the hypernetwork's parameters.
    """

    timeline: Timeline
    process_bytes: int
    widths: Mapping[Role, int]
    source: int
    body: int
    network: int


class _FirstProcess:
    """The first of several processes, which has the largest share; sums change no shapes."""

    device = torch.device("cpu")

    def __init__(self, count: int) -> None:
        self.count = count

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        return rows[: -(-len(rows) // self.count)]

    def micro_batches(self, rows: Sequence[T], size: int) -> list[Sequence[T]]:
        mine = self.share(rows)
        return [mine[start : start + size] for start in range(0, len(mine), size)]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def sum_all(self, tensors: Iterable[torch.Tensor]) -> None:
        for _ in tensors:
            pass


class _SimulatedGradients(Gradients):
    """Gradients whose packed texts, which decide shapes, are real."""

    def _pack(self, texts: Sequence[np.ndarray]) -> PackedBatch:
        with unset_fake_temporarily():
            return pack(texts)


def simulate_network(
    architecture: Any,
    config: HypernetworkTrainingConfig,
    lengths: Sequence[int],
    rows: int,
    dtype: torch.dtype,
    stored: torch.dtype,
    hardware: Hardware,
    processes: int = 1,
) -> NetworkSimulation:
    """Simulate loading and a step of language modelling.

    Args:
        architecture: Configuration of the model (transformers).
        config: Settings of the training.
        lengths: Numbers of pieces of the step's predicted tokens.
        rows: Number of rows that are read.
        dtype: Data type in which the model computes.
        stored: Data type of the source rows.
        hardware: Hardware of each process.
        processes: Number of processes.

    Raises:
        StageFailed: The model is no causal language model, or uses an operation that fake tensors do not
            support.
    """
    timeline = Timeline()
    with explained(architecture), kernels_of(hardware), FakeTensorMode(allow_non_fake_inputs=True):
        with unset_fake_temporarily():
            with torch.device("meta"):
                model, network = _built(architecture, config, stored)
            batch = _batch(config, lengths, rows)
        source = network.source
        model.requires_grad_(False)
        if config.backbone is None:
            model.to(dtype)
        make_fake(model, network)
        process_bytes = resident_bytes()
        recorder = Recorder(timeline, torch.Size((rows, source.widths[0])), on_gpu=hardware.is_gpu)
        with recorder:
            with timeline.moment("load"), recorder.filing_under("weights"):
                for module in (model, network):
                    for tensor in (*module.parameters(), *module.buffers()):
                        recorder.enter(tensor)
                read = ReplacedEmbeddings(model)
                trained = None if config.backbone is None else TrainedBackbone(read, dtype)
            parameters = parameters_of(network)
            anchor = None
            if config.tokenizer is not None and config.lexical_weight:
                with recorder.filing_under("weights"):
                    anchor = {name: weight.detach().clone() for name, weight in parameters.items()}
            moved = [*parameters.values(), *(trained.weights.values() if trained is not None else ())]
            timeline.allocate(sum(adamw_bytes(tuple(weight.shape)) for weight in moved), "optimizer")
            processes_of: Any = _FirstProcess(processes)
            with timeline.moment("step"):
                gradients = _SimulatedGradients(network, read, config, processes_of, anchor, trained)
                gradients.of_language_modelling(batch)
        replaced = {id(each.weight) for each in (model.get_input_embeddings(), model.get_output_embeddings())}
        return NetworkSimulation(
            timeline,
            process_bytes,
            {role: source.get_buffer(role).shape[1] for role in source.roles},
            source.size,
            sum(weight.numel() for weight in model.parameters() if id(weight) not in replaced),
            sum(weight.numel() for weight in parameters.values()),
        )


def _built(
    architecture: Any, config: HypernetworkTrainingConfig, stored: torch.dtype
) -> tuple[Any, Hypernetwork]:
    """Return model and hypernetwork without content."""
    model = build(architecture)
    words, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    size, width = words.shape
    roles: dict[Role, torch.Tensor] = {"tied" if words is head else "input": torch.empty(size, width)}
    if words is not head:
        roles["output"] = torch.empty(*head.shape)
    rows = {role: rows_VH.to(stored) for role, rows_VH in roles.items()}
    # zett fits its scalers by predictions of source tokens, for which there must be content
    shape = config.network.model_dump() | {"variant": "residual"}
    network = Hypernetwork(type(config.network).model_validate(shape), rows)
    network.config = config.network
    return model, network


def _batch(config: HypernetworkTrainingConfig, lengths: Sequence[int], rows: int) -> Batch:
    """Return a step's batch of full texts, in which all predicted tokens and then all others have rows."""
    most = max((1, *lengths))
    counts_W = torch.tensor([*lengths, *[1] * (rows - len(lengths))])
    mask_WL = torch.arange(most) < counts_W[:, None]
    forms = SurfaceForms(torch.zeros(rows, most, dtype=torch.int64), mask_WL, 0)
    text = np.arange(config.sequence_length, dtype=np.int64) % rows
    return Batch([text] * config.texts, forms, np.ones(rows, dtype=np.int64), rows, 0.0)
