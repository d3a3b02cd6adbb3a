"""AdaLoRA's rank allocation: the importance of every singular value, and the matrices that lose some.

The allocation is peft's. It works on the float32 weights that the optimizer moves, and its state is tensors
that checkpoints hold. Of sharded weights every process gathers whole copies: adapters are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from cpt.training.distributed.tensors import shard_like, whole

_IMPORTANCE, _UNCERTAINTY, _KEPT = ".importance", ".uncertainty", ".kept"


class RankAllocation:
    """The changing ranks of AdaLoRA's adapters (Zhang et al. 2023, arXiv 2303.10512, section 3)."""

    def __init__(self, allocator: Any, config: Any, weights: Mapping[str, nn.Parameter]) -> None:
        """Take over peft's `RankAllocator`.

        Args:
            allocator: `RankAllocator` of the adapter.
            config: peft's configuration of the adapter.
            weights: Trained weights by the model's names; the adapter's factors are among them.
        """
        self._allocator, self._config = allocator, config
        self._factors = {name: weight for name, weight in weights.items() if ".lora_" in name}
        self._values = [name for name in self._factors if ".lora_E." in name]
        self.state: dict[str, torch.Tensor] = {}
        """Moving averages of each factor's importance and uncertainty; the singular values that stay."""
        allocator.ipt = dict.fromkeys(self._factors)  # else the first update would restart the averages
        for name, weight in self._factors.items():
            for ending, averages in self._averages():
                averages[name] = self.state[name + ending] = torch.zeros(weight.shape, device=weight.device)
        for name in self._values:
            weight = self._factors[name]
            self.state[name + _KEPT] = torch.ones(weight.shape, device=weight.device)

    def regularise(self) -> None:
        """Add the gradient of the penalty on factors that are not orthogonal (equation 4).

        As in peft, the penalty is the mean over the factors of the Frobenius norm, not of its square.
        """
        weight = self._config.orth_reg_weight
        factors = {name: factor for name, factor in self._factors.items() if name not in self._values}
        if not weight:
            return
        copies = {name: whole(factor).detach().requires_grad_() for name, factor in factors.items()}
        norms = [_distance(factor if ".lora_A." in name else factor.T) for name, factor in copies.items()]
        gradients = torch.autograd.grad(weight * torch.stack(norms).mean(), list(copies.values()))
        for factor, whole_gradient in zip(factors.values(), gradients, strict=True):
            gradient = shard_like(whole_gradient, factor)
            if factor.grad is None:
                factor.grad = gradient  # of a matrix that the forward pass does not use
            else:
                factor.grad += gradient

    @torch.no_grad()
    def allocate(self, step: int) -> None:
        """Update the importance from the gradients of a step, and zero the least important singular values.

        Args:
            step: Number of the optimizer step just taken, from 1; its gradients are still there.
        """
        last = self._config.total_step - self._config.tfinal
        weights = _NamedWeights({name: _whole_parameter(factor) for name, factor in self._factors.items()})
        if step > last:
            self._allocator.mask_using_rank_pattern(weights, self.pattern())
            self._take(weights)
            return
        _, pattern = self._allocator.update_and_allocate(weights, step, force_mask=step == last)
        for ending, averages in self._averages():
            for name in self._factors:
                averages[name] = self.state[name + ending].copy_(averages[name])
        self._allocator.ipt = dict.fromkeys(self._factors)  # of use only within the call above
        for name, kept in (pattern or {}).items():
            self.state[name + _KEPT].copy_(torch.tensor(kept)[:, None])
        self._take(weights)

    def _take(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Take this process's shards of singular values of which whole copies were masked."""
        for name in self._values:
            if weights[name] is not self._factors[name]:
                self._factors[name].copy_(shard_like(weights[name].detach(), self._factors[name]))

    def pattern(self) -> dict[str, list[bool]]:
        """Return which singular values of every adapter stay, as adapter_config.json holds it."""
        return {name: self.state[name + _KEPT].flatten().bool().tolist() for name in self._values}

    def _averages(self) -> tuple[tuple[str, dict[str, torch.Tensor]], ...]:
        return (_IMPORTANCE, self._allocator.exp_avg_ipt), (_UNCERTAINTY, self._allocator.exp_avg_unc)


class _NamedWeights(dict[str, nn.Parameter]):
    """Weights with the one method of a model that peft's allocator calls."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.items()


def _whole_parameter(factor: nn.Parameter) -> nn.Parameter:
    """Return a factor as a whole: itself, or a copy of a sharded one, with its gradient."""
    found = whole(factor)
    if found is factor:
        return factor
    copied = nn.Parameter(found)
    copied.grad = None if factor.grad is None else whole(factor.grad)
    return copied


def _distance(factor: torch.Tensor) -> torch.Tensor:
    """Return the distance of rows [r, n] from orthonormality: the Frobenius norm of Gram matrix minus I."""
    return (factor @ factor.T - torch.eye(len(factor), device=factor.device)).norm()
