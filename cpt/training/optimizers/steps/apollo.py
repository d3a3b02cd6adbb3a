"""The step of APOLLO and APOLLO-Mini."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cpt.training.optimizers.apollo import ApolloConfig
from cpt.training.optimizers.steps.matrices import (
    Matrix,
    MatrixOptimizer,
    adam_directions,
    moments,
    random_stream,
    upright,
)

_TINY = 1e-8
"""Keeps the scaling of a channel without gradient finite; the channel does not move."""


class ApolloStep(MatrixOptimizer[ApolloConfig]):
    """Shapes: L and S, a matrix's longer and shorter side; R, the rank; C, channels: L or 1."""

    def _start(self, matrix: Matrix) -> dict[str, Tensor]:
        gradient_LS = upright(matrix.gradient)
        rank = min(self._config.rank, gradient_LS.shape[-1])
        norm = gradient_LS.new_zeros((*gradient_LS.shape[:-2], 1, 1))
        return moments((*gradient_LS.shape[:-1], rank), gradient_LS) | {"update_norm": norm}

    def _move(self, matrices: Sequence[Matrix], rate: float) -> None:
        low_LR = [upright(matrix.gradient) @ self._projection(matrix) for matrix in matrices]
        steps = [matrix.count_step() for matrix in matrices]
        directions_LR = adam_directions(matrices, low_LR, steps, self._config)
        across = -1 if self._config.by_channel else (-2, -1)
        for matrix, gradient_LR, direction_LR in zip(matrices, low_LR, directions_LR, strict=True):
            lengths_C1 = gradient_LR.norm(dim=across, keepdim=True) + _TINY
            scaling_C1 = direction_LR.norm(dim=across, keepdim=True) / lengths_C1
            update_LS = self._limited(upright(matrix.gradient) * scaling_C1, matrix.state)
            upright(matrix.weight).add_(update_LS, alpha=-rate * math.sqrt(self._config.scale))

    def _projection(self, matrix: Matrix) -> Tensor:
        """P of the current period, [S, R]; one for all matrices of a stack."""
        shape = upright(matrix.gradient).shape[-1], matrix.state["exp_avg"].shape[-1]
        period, device = matrix.steps // self._config.gap, matrix.gradient.device
        stream = random_stream(device, self._config.seed, matrix.name, period)
        normal_SR = torch.randn(shape, generator=stream, dtype=matrix.gradient.dtype, device=device)
        return normal_SR / math.sqrt(shape[1])

    def _limited(self, update_LS: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The update, at most `limiter` times as long as the last; anything after none, or after zero."""
        norm, last = update_LS.norm(dim=(-2, -1), keepdim=True), state["update_norm"]
        allowed = torch.where(last > 0, torch.minimum(norm, self._config.limiter * last), norm)
        state["update_norm"] = allowed
        return update_LS.mul_(torch.where(norm > 0, allowed / norm, 1.0))
