"""Weights and optimizer state sharded over processes (FSDP2).

Every decoder layer is gathered for its own computation and resharded after it. Embeddings, last norm and head
stay gathered from the start of the forward pass to the end of the backward pass, because the loss uses the
head's weight itself, chunk by chunk. accelerate's own wrapping needs a call of the head, and does not exist
on CPUs; so this module calls torch's `fully_shard` with accelerate's settings.

The float32 shards are the master weights. torch's mixed precision gathers them in the working precision and
sums gradients in float32, as `MasterWeights` does where every process has the whole model.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel
from cpt.models.unloaded_model import is_unloaded
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.loading import check_shards, known_rows, load_shards, reshard
from cpt.training.distributed.tensors import SHARD, first_row, whole
from cpt.training.master_weights import Weights, next_seed, prepare_local_weights, round_stochastically
from cpt.training.settings import Settings

if TYPE_CHECKING:
    from cpt.training.objectives.reference_model import ReferenceModel

_MMAP_THRESHOLD, _MAPPED_FROM = -3, 1 << 20
"""glibc's `M_MMAP_THRESHOLD`, and the bytes from which a tensor has memory of its own."""


class ShardedWeights:
    """The trainable weights of a model, in float32, by name; each process holds a shard of each.

    `parameters` are the sharded parameters of the whole model. While a layer is gathered, the model has other
    tensors under their names.
    """

    def __init__(self, module: PackedLanguageModel, dtype: torch.dtype, processes: ProcessGroup) -> None:
        """Shard a float32 model, which is on the meta device, or of which every process has the same copy.

        Args:
            module: Model to shard in place.
            dtype: Data type in which the model computes from now on.
            processes: Process group of the run.
        """
        precision = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        shard(module, precision, processes)
        self._module: Any = module
        self._is_main = processes.is_main
        self.parameters = dict(module.model.named_parameters())
        self.weights = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self._owners = _owners(module.model)

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing: the optimizer moves the shards themselves."""

    def accumulate_grads(self) -> None:
        """Do nothing: torch sums gradients in float32 in the shards."""

    def sync_to_model(self) -> None:
        """Reshard gathered layers, so that the next forward pass sees the current weights."""
        reshard(self._module)

    @torch.no_grad()
    def restore_model(self, model: Any) -> bool:  # noqa: ARG002
        """Give the main process's model whole weights, to be saved; other processes' models stay sharded."""
        self.sync_to_model()
        for parameter, owners in self._owners:
            whole_parameter = whole(parameter)
            if self._is_main:
                released = nn.Parameter(whole_parameter.cpu().float(), parameter.requires_grad)
                for owner, name in owners:
                    owner.register_parameter(name, released)
        return self._is_main


class ShardedStochasticRounding(ShardedWeights):
    """The trainable weights of a model, in bfloat16, sharded; the counterpart of `StochasticRounding`.

    `weights` are tensors of their own, because FSDP2 keeps the data type of its parameters. Between the
    optimizer's steps they are the memory of the model's shards; in a step they are float32.
    """

    def __init__(self, module: PackedLanguageModel, processes: ProcessGroup, seed: int) -> None:
        """Shard a float32 model in bfloat16. Gradients accumulate in float32."""
        for parameter in module.parameters():
            parameter.data = parameter.data.bfloat16()
        super().__init__(module, torch.bfloat16, processes)
        self._seed = seed
        self._shards: dict[str, Any] = self.weights
        self.weights = {name: _narrow(shard) for name, shard in self._shards.items()}

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None:
        """Widen the weights to float32 before each step of the optimizer, and round them after it."""
        optimizer.register_step_pre_hook(lambda *_: self._widen())
        optimizer.register_step_post_hook(lambda optimizer, *_: self._round(optimizer.state))

    def _widen(self) -> None:
        for weight in self.weights.values():
            wide = nn.Parameter(weight.detach().float())
            wide.grad = weight.grad
            torch.utils.swap_tensors(weight, wide)

    @torch.no_grad()
    def _round(self, state: dict[torch.Tensor, Any]) -> None:
        for name, shard in self._shards.items():
            weight = self.weights[name]
            if weight.grad is not None:
                seed = next_seed(self._seed, name, state[weight])
                before = first_row(shard) * (shard.numel() // max(1, len(shard)))
                exact = weight.to_local()
                shard.to_local().copy_(round_stochastically(exact, seed, before, shard.numel()))
            narrow = _narrow(shard)
            narrow.grad = weight.grad
            torch.utils.swap_tensors(weight, narrow)

    @torch.no_grad()
    def accumulate_grads(self) -> None:
        """Add the gradients of the shards to the weights', in float32, and clear them."""
        for name, shard in self._shards.items():
            weight = self.weights[name]
            if shard.grad is not None:
                grad = shard.grad.float()
                weight.grad = grad if weight.grad is None else weight.grad + grad
                shard.grad = None


def _narrow(shard: Any) -> nn.Parameter:
    """Return a parameter in the memory of a shard, whose gradient is float32."""
    weight = nn.Parameter(shard.detach())
    weight.grad_dtype = torch.float32
    return weight


def prepare_weights(module: PackedLanguageModel, settings: Settings, processes: ProcessGroup) -> Weights:
    """Take over a float32 model for training: whole on this process's device, or sharded over all processes.

    Args:
        module: Model to train.
        settings: Settings of the run.
        processes: Process group of the run.
    """
    if not processes.sharding:
        module.model.to(processes.device)
        return prepare_local_weights(module.model, settings)
    if settings.stochastic_rounding:
        return ShardedStochasticRounding(module, processes, settings.seed)
    return ShardedWeights(module, settings.dtype, processes)


def prepare_reference(reference: ReferenceModel, settings: Settings, processes: ProcessGroup) -> None:
    """Take over the weights of a reference model: whole on this process's device, or sharded.

    Call it after `prepare_weights` if weights are whole, and before it if they are sharded: a sharded model
    cannot share weights with another.
    """
    if not processes.sharding:
        reference.prepare(settings.dtype, processes.device)
        return
    reference.prepare(settings.dtype, torch.device("cpu"), shared=False)
    unloaded = is_unloaded(reference.module)
    # embeddings and head stay gathered, because a loss takes the head from `states`
    shard(reference.module, MixedPrecisionPolicy(cast_forward_inputs=False), processes)
    register_fsdp_forward_method(reference.module, "states")
    if unloaded:
        check_shards(reference.module, settings.dtype, processes)


def shard(module: PackedLanguageModel, precision: MixedPrecisionPolicy, processes: ProcessGroup) -> None:
    """Shard a model over all processes, and load the shards of one that is on the meta device."""
    _shard(module, module.model, precision, processes)
    for method in ("per_token_loss", "score", "probabilities", "embeddings", "all_logits"):
        register_fsdp_forward_method(module, method)


def shard_for_reading(model: Any, processes: ProcessGroup) -> None:
    """Shard a causal language model over all processes, to be called itself; see `shard`."""
    _shard(model, model, MixedPrecisionPolicy(cast_forward_inputs=False), processes)


def _shard(root: nn.Module, model: Any, precision: MixedPrecisionPolicy, processes: ProcessGroup) -> None:
    """Shard the layers of a model each by itself, and all else with the module whose forward pass is run."""
    plugin = processes.sharding
    if plugin is None:
        raise ValueError("these processes do not shard weights")
    if processes.device.type == "cpu":
        _return_freed_tensors()
    rows = known_rows(root)
    device, replicas = processes.device.type, processes.replicas
    if replicas == 1:
        mesh = init_device_mesh(device, (processes.count,))
    else:
        sizes = (replicas, processes.count // replicas)
        mesh = init_device_mesh(device, sizes, mesh_dim_names=("replicate", SHARD))
    options: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": precision,
    }
    for layer in layers_of(model, plugin.transformer_cls_names_to_wrap):
        fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **options)
    fully_shard(root, reshard_after_forward=False, **options)
    if rows:
        load_shards(root, rows, processes.device)


def _return_freed_tensors() -> None:
    """Let the C library give the memory of freed tensors back to the system at once (glibc).

    It keeps them for later otherwise, in a heap with ever more holes: after 32 gathered layers,
    a forward pass of a model of 1 GB took 1.9 GB more than its shards, and takes 0.25 GB so.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)


def layers_of(model: Any, chosen: Iterable[str] | None = None) -> list[nn.Module]:
    """Return the modules to gather one at a time.

    Args:
        model: Causal language model.
        chosen: Names of their classes; by default those that transformers does not split over devices.
    """
    names = set(chosen or getattr(model, "_no_split_modules", None) or ())
    found = [part for part in model.modules() if type(part).__name__ in names]
    if not found:
        raise StageFailed(
            f"the layers of {type(model).__name__} are not known by name, so FSDP2 cannot shard them",
            hint="Name their class with --fsdp_transformer_layer_cls_to_wrap.",
        )
    return found


def _owners(model: nn.Module) -> list[tuple[nn.Parameter, list[tuple[nn.Module, str]]]]:
    """Return every parameter with the modules that hold it, and its name there: a tied one has several."""
    found: dict[int, tuple[nn.Parameter, list[tuple[nn.Module, str]]]] = {}
    for owner in model.modules():
        for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            found.setdefault(id(parameter), (parameter, []))[1].append((owner, name))
    return list(found.values())
