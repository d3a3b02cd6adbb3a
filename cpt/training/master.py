"""Float32 master weights behind a model that computes in bfloat16.

A bfloat16 weight has 8 bits of mantissa: an update smaller than 1/256 of it is lost. So the optimizer moves
float32 masters, and the model holds their rounded copies, which spares a cast of every weight in every
forward pass (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from cpt.models.accumulate import accumulate
from cpt.training.rounding import StochasticRounding

if TYPE_CHECKING:
    from cpt.training.settings import Settings


class Weights(Protocol):
    """The trainable weights of a model, as an optimizer moves them.

    Attributes:
        weights: by name.
        parameters: all of the model's, by name.
    """

    weights: dict[str, nn.Parameter]
    parameters: dict[str, nn.Parameter]

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Take part in the optimizer's steps."""

    def collect(self) -> None:
        """Take up the model's gradients: after each backward pass."""

    def publish(self) -> None:
        """Hand the weights to the model: after every change of them."""

    def release(self, model: Any) -> None:
        """Make the model float32 again, to be saved."""


def hold_weights(model: nn.Module, settings: Settings) -> Weights:
    """The weights of a float32 model, held as the settings say."""
    if settings.stochastic_rounding:
        return StochasticRounding(model, settings.seed)
    return MasterWeights(model, settings.dtype)


class MasterWeights:
    """The trainable weights of a model, in float32, by name.

    With float32 as working precision master and model are one. `parameters` are all of the model's, by name.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Take over a float32 model and set its working precision.

        Args:
            dtype: data type in which the model holds its parameters from now on. Buffers stay as they are.
        """
        self.parameters = dict(model.named_parameters())
        self._working = {name: p for name, p in self.parameters.items() if p.requires_grad}
        if dtype == torch.float32:
            self.weights = self._working
            return
        self.weights = {name: nn.Parameter(p.detach().clone()) for name, p in self._working.items()}
        self._frozen: dict[str, torch.Tensor] = {}
        for name, parameter in model.named_parameters():
            rounded = parameter.data.to(dtype)
            if name not in self._working and not torch.equal(rounded.float(), parameter.data):
                self._frozen[name] = parameter.data.cpu()
            parameter.data = rounded

    @property
    def _separate(self) -> bool:
        return self.weights is not self._working

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: the optimizer has the masters."""

    def collect(self) -> None:
        """Add the model's gradients to the masters', in float32, and clear them: after each backward pass."""
        if not self._separate:
            return
        for name, parameter in self._working.items():
            if parameter.grad is None:
                continue
            master_weights = self.weights[name]
            if master_weights.grad is None:
                master_weights.grad = parameter.grad.float()
            else:
                accumulate(master_weights.grad, parameter.grad)
            parameter.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model: after every change of the masters."""
        if self._separate:
            for name, parameter in self._working.items():
                parameter.copy_(self.weights[name])

    def release(self, model: Any) -> None:
        """Give the masters back to the model, which is float32 again, to be saved.

        Frozen weights are again what they were: those that the working precision cannot hold were kept.
        """
        if self._separate:
            for name, parameter in model.named_parameters():
                kept = self._frozen.get(name, parameter.data)
                parameter.data = kept.to(parameter.device, torch.float32)
            for name, parameter in self._working.items():
                parameter.data = self.weights[name].data
