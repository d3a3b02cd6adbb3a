"""AdaLoRA's budget of ranks: the importance of every singular value, and what is taken from which matrix.

The allocation is peft's. It works on the float32 weights that the optimizer moves, and what it remembers lies
in tensors that checkpoints keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

_IMPORTANCE, _UNCERTAINTY, _KEPT = ".importance", ".uncertainty", ".kept"


class RankAllocation:
    """Moves the ranks of AdaLoRA's adapters (Zhang et al. 2023, arXiv 2303.10512, section 3)."""

    def __init__(self, allocator: Any, config: Any, weights: Mapping[str, nn.Parameter]) -> None:
        """Take over peft's `RankAllocator`.

        Args:
            weights: trained weights; those of the adapters are among them under the model's names.
        """
        self._allocator, self._config = allocator, config
        self._factors = {name: weight for name, weight in weights.items() if ".lora_" in name}
        self._values = [name for name in self._factors if ".lora_E." in name]
        self.state: dict[str, torch.Tensor] = {}
        """Moving averages of each factor's importance and its uncertainty; which singular values stay."""
        allocator.ipt = dict.fromkeys(self._factors)  # else the first update would begin the averages anew
        for name, weight in self._factors.items():
            for ending, averages in self._averages():
                averages[name] = self.state[name + ending] = torch.zeros_like(weight, requires_grad=False)
        for name in self._values:
            self.state[name + _KEPT] = torch.ones_like(self._factors[name], requires_grad=False)

    def regularise(self) -> None:
        """Add to the gradients that of the penalty on factors that are not orthogonal (equation 4).

        As in peft it is the mean over the factors of the Frobenius norm, not its square.
        """
        weight = self._config.orth_reg_weight
        factors = {name: factor for name, factor in self._factors.items() if name not in self._values}
        if not weight:
            return
        norms = [_distance(factor if ".lora_A." in name else factor.T) for name, factor in factors.items()]
        gradients = torch.autograd.grad(weight * torch.stack(norms).mean(), list(factors.values()))
        for factor, gradient in zip(factors.values(), gradients, strict=True):
            if factor.grad is None:
                factor.grad = gradient  # of a matrix that the text does not go through
            else:
                factor.grad += gradient

    @torch.no_grad()
    def allocate(self, step: int) -> None:
        """Learn from the gradients of a step and zero the singular values that are to go.

        Args:
            step: the optimizer step that was just taken, counted from 1; its gradients are still there.
        """
        last = self._config.total_step - self._config.tfinal
        weights = _Named(self._factors)
        if step > last:
            self._allocator.mask_using_rank_pattern(weights, self.pattern())
            return
        _, pattern = self._allocator.update_and_allocate(weights, step, force_mask=step == last)
        for ending, averages in self._averages():
            for name in self._factors:
                averages[name] = self.state[name + ending].copy_(averages[name])
        for name, kept in (pattern or {}).items():
            self.state[name + _KEPT].copy_(torch.tensor(kept)[:, None])

    def pattern(self) -> dict[str, list[bool]]:
        """For every adapter which singular values stay, as adapter_config.json holds it."""
        return {name: self.state[name + _KEPT].flatten().bool().tolist() for name in self._values}

    def _averages(self) -> tuple[tuple[str, dict[str, torch.Tensor]], ...]:
        return (_IMPORTANCE, self._allocator.exp_avg_ipt), (_UNCERTAINTY, self._allocator.exp_avg_unc)


class _Named(dict[str, nn.Parameter]):
    """Weights that look like a model to peft's allocator."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.items()


def _distance(factor: torch.Tensor) -> torch.Tensor:
    """How far rows [r, n] are from orthonormal: the Frobenius norm of their Gram matrix less the identity."""
    return (factor @ factor.T - torch.eye(len(factor), device=factor.device)).norm()
