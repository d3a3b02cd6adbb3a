"""Models that do not train, but are compared with the one that does, in its working precision."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import nn

from cpt.models.packed_model import PackedLanguageModel


class Beside(Protocol):
    """A model beside the one that trains.

    Attributes:
        module: to be used after `hold` only.
    """

    module: PackedLanguageModel

    def hold(self, dtype: torch.dtype, device: torch.device) -> None:
        """Take over the model, as soon as the one that trains is held, and before its weights change."""


class ReferenceModel:
    """The model as it is before training.

    What does not train has the same weights in both models and is there only once: beside an adapter nothing
    is held at all (an adapter left out is the starting model), beside chosen layers these layers.
    """

    def __init__(self, model: Any) -> None:
        """Take a model to which nothing has been added yet."""
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.module = PackedLanguageModel(copy.deepcopy(model, shared))

    def hold(self, dtype: torch.dtype, device: torch.device) -> None:  # noqa: ARG002
        """Copy the weights that train, which are in working precision and on the device already."""
        _move_buffers(self.module, device)
        copies: dict[nn.Parameter, nn.Parameter] = {}
        for part in self.module.modules():
            for name, weight in part._parameters.items():
                if weight is not None and weight.requires_grad:
                    if weight not in copies:
                        copies[weight] = nn.Parameter(weight.detach().clone(), requires_grad=False)
                    part._parameters[name] = copies[weight]


class Teacher:
    """A model that was trained before."""

    def __init__(self, model: Any) -> None:
        """Take a float32 model."""
        self.module = PackedLanguageModel(model)

    def hold(self, dtype: torch.dtype, device: torch.device) -> None:
        """Bring the weights into working precision; buffers stay as they are."""
        for weight in self.module.parameters():
            weight.requires_grad_(False)
            weight.data = weight.data.to(device, dtype)
        _move_buffers(self.module, device)


def _move_buffers(module: nn.Module, device: torch.device) -> None:
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
