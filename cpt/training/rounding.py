"""Bfloat16 weights without float32 masters: what a step moves is rounded up or down by chance.

Rounding to the nearest bfloat16 loses every update smaller than half the distance to the next number.
Rounding up with a probability of how far up the exact value lies is right on average (Zamirai et al. 2020,
arXiv 2010.06192, section 3.2), and saves the 4 bytes a parameter that masters take beside the activations.
Only while the optimizer moves them are the weights float32.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from cpt.errors import StageFailed

_COUNT = "roundings"
"""Key in the optimizer's state under which a checkpoint keeps how often a weight was rounded."""


class StochasticRounding:
    """The trainable weights of a model, in bfloat16, by name; the counterpart of `MasterWeights`.

    The chance is a pure function of the seed, the weight's name and how many steps it has taken.
    """

    def __init__(self, model: nn.Module, seed: int) -> None:
        """Take over a model, in bfloat16 from now on. Gradients add up in float32.

        Raises:
            StageFailed: this PyTorch cannot accumulate gradients in a precision of their own.
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

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Widen the weights before each of the optimizer's steps and round them after it."""
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
            count = int(state[weight].get(_COUNT, 0))
            state[weight][_COUNT] = torch.tensor(count + 1)
            weight.data = round_stochastically(weight.data, _derived(self._seed, name, count))

    def collect(self) -> None:
        """Nothing: the gradients are where the optimizer looks for them."""

    def publish(self) -> None:
        """Nothing: the model computes with these very weights."""

    def release(self, model: Any) -> None:
        """Make the model float32 again, to be saved."""
        for weight in self.weights.values():
            weight.grad = None
        for parameter in model.parameters():
            parameter.data = parameter.data.float()


def round_stochastically(exact: torch.Tensor, seed: int) -> torch.Tensor:
    """A float32 tensor in bfloat16, each number rounded to one of its two neighbours; right on average.

    A bfloat16 is the upper half of a float32's bits. A random lower half, added, carries into the upper one
    with the probability that the lower half is of a whole.
    """
    generator = torch.Generator(exact.device).manual_seed(seed)
    words = torch.empty(-(-exact.numel() // 4), dtype=torch.int64, device=exact.device)
    chance = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: exact.numel()]
    bits = exact.contiguous().view(torch.int32) + (chance.view(exact.shape).to(torch.int32) & 0xFFFF)
    return (bits & -0x10000).view(torch.float32).bfloat16()


def _derived(seed: int, name: str, count: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{count}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
