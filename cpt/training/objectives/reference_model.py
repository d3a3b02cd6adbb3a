"""Reference models: models that do not train, and that the objective compares with the one that does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from cpt.models.packed_model import PackedLanguageModel
from cpt.models.unloaded_model import initial_rows, set_initial_rows

if TYPE_CHECKING:
    from cpt.training.objectives.aligned_rows import Aligner


class ReferenceModel(Protocol):
    """A model that does not train, in the working precision of the one that does.

    Attributes:
        module: The packed model; valid after `prepare`.
    """

    module: PackedLanguageModel

    def prepare(self, dtype: torch.dtype, device: torch.device, *, shared: bool = True) -> None:
        """Take over the weights, once the model that trains has its precision and before it changes.

        Args:
            dtype: Data type of the weights from now on.
            device: Device of the weights from now on.
            shared: False: the model shares no weights with the one that trains, which is still float32.
        """


class StartingModel:
    """The model as it is before training.

    Weights that do not train are the same in both models and are shared. With an adapter nothing is copied
    (the model without it is the starting model), with chosen layers only these layers are.
    """

    def __init__(self, model: Any) -> None:
        """Take a model before adapters or layers are added to it."""
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.module = PackedLanguageModel(copy.deepcopy(model, shared))

    def prepare(self, dtype: torch.dtype, device: torch.device, *, shared: bool = True) -> None:
        """Copy the weights that train, which have their working precision and device, or all weights."""
        _move_buffers(self.module, device)
        copies: dict[nn.Parameter, nn.Parameter] = {}
        for part in self.module.modules():
            for name, weight in part._parameters.items():
                if weight is not None and (weight.requires_grad or not shared):
                    if weight not in copies:
                        own = (
                            weight.detach().clone()
                            if shared
                            else weight.detach().to(_place(weight, device), dtype, copy=True)
                        )
                        copies[weight] = nn.Parameter(own, requires_grad=False)
                        set_initial_rows(copies[weight], initial_rows(weight))
                    part._parameters[name] = copies[weight]


class Teacher:
    """A model of an earlier stage."""

    def __init__(self, model: Any) -> None:
        """Take a float32 model."""
        self.module = PackedLanguageModel(model)

    def prepare(self, dtype: torch.dtype, device: torch.device, *, shared: bool = True) -> None:  # noqa: ARG002
        """Convert the weights to the working precision; buffers keep their data type."""
        for weight in self.module.parameters():
            weight.requires_grad_(False)
            weight.data = weight.data.to(_place(weight, device), dtype)
        _move_buffers(self.module, device)


class AlignedTeacher(Teacher):
    """A model of another stage with a tokenizer of its own, and the alignment of a student's tokens with it.

    Attributes:
        aligner: Alignment of the student's documents.
    """

    def __init__(self, model: Any, aligner: Aligner) -> None:
        """Take a float32 model."""
        super().__init__(model)
        self.aligner = aligner


def _place(weight: torch.Tensor, device: torch.device) -> torch.device:
    """Return the device of a weight from now on: one without values gets them when it is sharded."""
    return weight.device if weight.is_meta else device


def _move_buffers(module: nn.Module, device: torch.device) -> None:
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
