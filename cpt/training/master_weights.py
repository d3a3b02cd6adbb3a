"""The trainable weights of a model in a working precision: float32 master weights, or stochastic rounding.

Master weights: a bfloat16 weight has 8 bits of mantissa, so an update smaller than 1/256 of it is lost. The
optimizer therefore moves float32 master weights, and the model holds their rounded copies, which saves a cast
of every weight in every forward pass (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1).

Stochastic rounding: bfloat16 weights without master weights. Rounding to the nearest bfloat16 loses every
update smaller than half the distance to the next number. Rounding up with a probability proportional to the
distance from the lower number is right on average (Zamirai et al. 2020, arXiv 2010.06192, section 3.2), and
saves the 4 bytes per parameter of master weights. The weights are float32 only during an optimizer step.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from cpt.errors import StageFailed
from cpt.models.loss import accumulate

if TYPE_CHECKING:
    from cpt.training.settings import Settings


_COUNT = "roundings"
"""Key of the optimizer's state: how often a weight was rounded."""


class StochasticRounding:
    """The trainable weights of a model, in bfloat16, by name; the counterpart of `MasterWeights`.

    The random numbers are a pure function of the seed, the weight's name and its number of steps.
    """

    def __init__(self, model: nn.Module, seed: int) -> None:
        """Take over a model and convert it to bfloat16. Gradients accumulate in float32.

        Raises:
            StageFailed: This PyTorch cannot accumulate gradients in another precision than the weights'.
        """
        if not hasattr(torch.Tensor, "grad_dtype"):
            raise StageFailed(
                f"stochastic rounding needs a newer PyTorch than {torch.__version__} (Tensor.grad_dtype)",
                hint="Update torch, or set master_weights: fp32.",
            )
        self._seed = seed
        self.parameters = dict(model.named_parameters())
        self.weights = {name: p for name, p in self.parameters.items() if p.requires_grad}
        for parameter in self.parameters.values():
            parameter.data = parameter.data.bfloat16()
        for weight in self.weights.values():
            weight.grad_dtype = torch.float32

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None:
        """Widen the weights to float32 before each step of the optimizer, and round them after it."""
        optimizer.register_step_pre_hook(lambda *_: self._widen())
        optimizer.register_step_post_hook(lambda optimizer, *_: self._round(optimizer.state))

    def _widen(self) -> None:
        for weight in self.weights.values():
            weight.data = weight.data.float()

    def _round(self, state: dict[torch.Tensor, Any]) -> None:
        for name, weight in self.weights.items():
            if weight.grad is None:  # not moved, so still a bfloat16 number
                weight.data = weight.data.bfloat16()
                continue
            weight.data = round_stochastically(weight.data, next_seed(self._seed, name, state[weight]))

    def accumulate_grads(self) -> None:
        """Do nothing: gradients accumulate in the weights that the optimizer moves."""

    def sync_to_model(self) -> None:
        """Do nothing: the model computes with these weights."""

    def restore_model(self, model: Any) -> bool:
        """Convert the model to float32, to be saved. See `Weights`."""
        for weight in self.weights.values():
            weight.grad = None
        for parameter in model.parameters():
            parameter.data = parameter.data.float()
        return True


def round_stochastically(
    exact: torch.Tensor, seed: int, before: int = 0, total: int | None = None
) -> torch.Tensor:
    """Round a float32 tensor to bfloat16, each number to one of its two neighbours, right on average.

    A bfloat16 is the upper 16 bits of a float32. Adding 16 random bits to the lower half carries into the
    upper half with a probability of lower half / 2^16.

    Args:
        exact: Tensor, or a shard of one.
        seed: Seed of the random bits.
        before: Number of elements of the whole tensor before this shard, which gets the bits that it has as a
            part of the whole: they do not depend on the number of processes.
        total: Number of elements of the whole tensor.
    """
    total = exact.numel() if total is None else total
    generator = torch.Generator(exact.device).manual_seed(seed)
    words = torch.empty(-(-total // 4), dtype=torch.int64, device=exact.device)
    bits_of_all = words.random_(-(2**63), None, generator=generator).view(torch.int16)
    chance = bits_of_all[before : before + exact.numel()]
    bits = exact.contiguous().view(torch.int32) + (chance.view(exact.shape).to(torch.int32) & 0xFFFF)
    return (bits & -0x10000).view(torch.float32).bfloat16()


def next_seed(seed: int, name: str, state: dict[str, Any]) -> int:
    """Return the seed of a weight's next rounding, which its optimizer state counts."""
    count = int(state.get(_COUNT, 0))
    state[_COUNT] = torch.tensor(count + 1)
    digest = hashlib.sha256(f"{seed}/{name}/{count}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Weights(Protocol):
    """The trainable weights of a model, as an optimizer moves them.

    Attributes:
        weights: Trainable weights, by name.
        parameters: All parameters of the model, by name.
    """

    weights: dict[str, nn.Parameter]
    parameters: dict[str, nn.Parameter]

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None:
        """Register the hooks that must run around the optimizer's steps."""

    def accumulate_grads(self) -> None:
        """Add the model's gradients to those of the weights, after each backward pass."""

    def sync_to_model(self) -> None:
        """Copy the weights into the model, after every change of them."""

    def restore_model(self, model: Any) -> bool:
        """Convert the model to float32, to be saved; return False if this process has only shards of it."""


def prepare_local_weights(model: nn.Module, settings: Settings) -> Weights:
    """Take over a float32 model that is whole on this process's device, in the precision of the settings."""
    if settings.stochastic_rounding:
        return StochasticRounding(model, settings.seed)
    return MasterWeights(model, settings.dtype)


class MasterWeights:
    """The trainable weights of a model, in float32, by name.

    With float32 as working precision the master weights are the model's parameters themselves.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Take over a float32 model and convert it to its working precision.

        Args:
            model: Model whose trainable parameters have `requires_grad`.
            dtype: Data type of the model's parameters from now on; buffers keep theirs.
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

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing: the optimizer moves the master weights themselves."""

    def accumulate_grads(self) -> None:
        """Add the model's gradients to the master weights', in float32, and clear them."""
        for name in self._working:
            self.accumulate_grad(name)

    def accumulate_grad(self, name: str) -> None:
        """Add one parameter's gradient to its master weight's, in float32, and clear it."""
        parameter, master = self._working[name], self.weights[name]
        if parameter is master or parameter.grad is None:
            return
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            accumulate(master.grad, parameter.grad)
        parameter.grad = None

    @torch.no_grad()
    def sync_to_model(self) -> None:
        """Round the master weights into the model."""
        if self._separate:
            for name, parameter in self._working.items():
                parameter.copy_(self.weights[name])

    def restore_model(self, model: Any) -> bool:
        """Give the model the float32 master weights, to be saved. See `Weights`.

        Frozen weights get their original values: those that the working precision cannot represent were kept.
        """
        if self._separate:
            for name, parameter in model.named_parameters():
                kept = self._frozen.get(name, parameter.data)
                parameter.data = kept.to(parameter.device, torch.float32)
            for name, parameter in self._working.items():
                parameter.data = self.weights[name].data
        return True
