"""Weights and optimizer state divided among processes (FSDP2).

Every decoder layer is gathered for its own computation and given back after it; embeddings, last norm and
head stay gathered from the beginning of the forward pass to the end of the backward pass, for the loss uses
the head's weight itself, chunk by chunk. The wrapping that accelerate would do relies on the head being
called, and is not to be had on CPUs; so torch's `fully_shard` is called here, with accelerate's settings.

The float32 shards are the master weights; torch's mixed precision gathers them in the working precision and
sums gradients in float32, as `MasterWeights` does for a model that every process has wholly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.launch import whole_weights_needed
from cpt.training.master import Weights, hold_weights
from cpt.training.processes import Processes
from cpt.training.settings import Settings

if TYPE_CHECKING:
    from cpt.training.trainable.choice import Choice


class ShardedWeights:
    """The trainable weights of a model, in float32, by name; each process holds its part of every one.

    `parameters` are all of the model's: while some are gathered, it has others under their names.
    """

    def __init__(self, module: PackedLanguageModel, dtype: torch.dtype, processes: Processes) -> None:
        """Divide a float32 model, on the CPU or not, among the processes; each has the same whole one.

        Args:
            dtype: data type in which the model computes from now on.
        """
        _shard(module, dtype, processes)
        self._module: Any = module
        self._keeps = processes.is_main
        self.parameters = dict(module.model.named_parameters())
        self.weights = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self._places = _places(module.model)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: the optimizer has the shards."""

    def collect(self) -> None:
        """Gradients are summed in float32 where the weights are: there is nothing to do."""

    def publish(self) -> None:
        """Drop what is still gathered, so that the next forward pass sees the weights as they are now."""
        self._module.reshard()

    @torch.no_grad()
    def release(self, model: Any) -> None:  # noqa: ARG002
        """Give the main process's model whole weights, to be saved; the others' is of no use any more."""
        self.publish()
        for parameter, places in self._places:
            whole_parameter = whole(parameter)
            if self._keeps:
                released = nn.Parameter(whole_parameter.cpu(), parameter.requires_grad)
                for owner, name in places:
                    owner.register_parameter(name, released)


def master_weights(
    module: PackedLanguageModel, choice: Choice, settings: Settings, processes: Processes
) -> Weights:
    """Take over a float32 model for training: whole on this process's device, or divided among all.

    Args:
        choice: what of it trains.

    Raises:
        StageFailed: the weights are to be divided, and the settings ask for what needs whole ones.
    """
    if not processes.sharding:
        module.model.to(processes.device)
        return hold_weights(module.model, settings)
    refused = whole_weights_needed(
        settings.config.optimizer,
        settings.config.anomalies,
        adapter=choice.adapter is not None,
        new_rows=bool(choice.new_rows),
        stochastic_rounding=settings.stochastic_rounding,
        float8=settings.float8,
        gradient_checkpointing=settings.config.gradient_checkpointing,
        gates=settings.config.gates,
        model_beside=settings.config.objective.needs_model_beside,
    )
    for problem in refused:
        raise StageFailed(problem.message, hint=problem.hint)
    return ShardedWeights(module, settings.dtype, processes)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that may be divided among the processes as one; all of them must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def place(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A whole tensor, which every process has, where and as `weight` is: the inverse of `whole`.

    State of another shape than its weight's (a step counter) is not divided.
    """
    tensor = tensor.to(weight.device)
    if isinstance(weight, DTensor) and tensor.shape == weight.shape:
        return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)
    return tensor


def _shard(module: PackedLanguageModel, dtype: torch.dtype, processes: Processes) -> None:
    plugin = processes.sharding
    if plugin is None:
        raise ValueError("these processes do not divide weights")
    options: dict[str, Any] = {
        "mesh": init_device_mesh(processes.device.type, (processes.count,)),
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        ),
    }
    for layer in layers_of(module.model, plugin.transformer_cls_names_to_wrap):
        fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **options)
    fully_shard(module, reshard_after_forward=False, **options)
    for method in ("token_nats", "score"):
        register_fsdp_forward_method(module, method)


def layers_of(model: Any, chosen: Iterable[str] | None = None) -> list[nn.Module]:
    """The modules to gather one at a time: of the named classes, by default the model's own layers."""
    names = set(chosen or getattr(model, "_no_split_modules", None) or ())
    found = [part for part in model.modules() if type(part).__name__ in names]
    if not found:
        raise StageFailed(
            f"the layers of {type(model).__name__} are not known by name, so FSDP2 cannot divide them",
            hint="Name their class with --fsdp_transformer_layer_cls_to_wrap.",
        )
    return found


def _places(model: nn.Module) -> list[tuple[nn.Parameter, list[tuple[nn.Module, str]]]]:
    """Every parameter with all the places that it has in a model: tied ones have several."""
    found: dict[int, tuple[nn.Parameter, list[tuple[nn.Module, str]]]] = {}
    for owner in model.modules():
        for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            found.setdefault(id(parameter), (parameter, []))[1].append((owner, name))
    return list(found.values())
