"""Muon's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cpt.training.optimizers.muon import Muon
from cpt.training.optimizers.steps.matrices import Matrix, MatrixOptimizer

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration: steepest at zero, singular values end between about 0.7 and 1.2."""

_TINY = 1e-7


class MuonStep(MatrixOptimizer[Muon]):
    """As `torch.optim.Muon`, for stacks of matrices too."""

    def _start(self, matrix: Matrix) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(matrix.gradient)}

    def _move(self, matrices: Sequence[Matrix], rate: float) -> None:
        gradients = [matrix.gradient for matrix in matrices]
        averages = [matrix.state["momentum"] for matrix in matrices]
        torch._foreach_lerp_(averages, gradients, 1 - self._config.momentum)
        if self._config.nesterov:
            averages = list(torch._foreach_lerp(gradients, averages, self._config.momentum))
        for matrix, average in zip(matrices, averages, strict=True):
            update = orthogonal(average, self._config.newton_schulz_steps)
            size = self._config.size(*matrix.weight.shape[-2:])
            matrix.weight.add_(update, alpha=-rate * size)


def orthogonal(x: Tensor, iterations: int) -> Tensor:
    """Nearly U Vᵀ of x = U Σ Vᵀ, in bfloat16, by the Newton-Schulz iteration X ← aX + (bXXᵀ + c(XXᵀ)²)X.

    Args:
        x: [..., M, N].
    """
    a, b, c = _QUINTIC
    stack = x.reshape(-1, *x.shape[-2:]).bfloat16()
    upright = x.shape[-2] > x.shape[-1]
    wide = stack.mT if upright else stack
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=_TINY)
    for _ in range(iterations):
        gram = wide @ wide.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        wide = torch.baddbmm(wide, factor, wide, beta=a)
    return (wide.mT if upright else wide).reshape(x.shape)
