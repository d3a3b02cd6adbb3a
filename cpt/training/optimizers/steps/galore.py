"""GaLore's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cpt.training.optimizers.galore import GaLore
from cpt.training.optimizers.steps.matrices import (
    Matrix,
    MatrixOptimizer,
    adam_directions,
    moments,
    upright,
)


class GaLoreStep(MatrixOptimizer[GaLore]):
    """Shapes: L and S, a matrix's longer and shorter side; R, the rank."""

    def _start(self, matrix: Matrix) -> dict[str, Tensor]:
        gradient_LS = upright(matrix.gradient)
        rank = min(self._config.rank, gradient_LS.shape[-1])
        projection_SR = gradient_LS.new_zeros((*gradient_LS.shape[:-2], gradient_LS.shape[-1], rank))
        return moments((*gradient_LS.shape[:-1], rank), gradient_LS) | {"projection": projection_SR}

    def _move(self, matrices: Sequence[Matrix], rate: float) -> None:
        for matrix in matrices:
            if matrix.steps % self._config.gap == 0:
                projection_SR = matrix.state["projection"]
                projection_SR.copy_(leading_directions(upright(matrix.gradient), projection_SR.shape[-1]))
        low_LR = [upright(matrix.gradient) @ matrix.state["projection"] for matrix in matrices]
        steps = [matrix.count_step() for matrix in matrices]
        directions_LR = adam_directions(matrices, low_LR, steps, self._config)
        for matrix, direction_LR in zip(matrices, directions_LR, strict=True):
            update_LS = direction_LR @ matrix.state["projection"].mT
            upright(matrix.weight).add_(update_LS, alpha=-rate * self._config.scale)


def leading_directions(gradient_LS: Tensor, rank: int) -> Tensor:
    """The right singular vectors of the largest singular values, [..., S, R], as orthonormal columns.

    They are the eigenvectors of GᵀG, in float64, where squaring loses nothing that float32 has: cheaper
    than the decomposition of G. Their sign, which is arbitrary, is such that the entry of the largest size
    is positive, so that results do not depend on the library.
    """
    device = "cpu" if gradient_LS.device.type == "mps" else gradient_LS.device  # mps has no float64
    double_LS = gradient_LS.to(device, torch.float64)
    _, vectors_SS = torch.linalg.eigh(double_LS.mT @ double_LS)
    leading_SR = vectors_SS.flip(-1)[..., :rank]
    largest_R = leading_SR.gather(-2, leading_SR.abs().argmax(-2, keepdim=True))
    return (leading_SR * largest_R.sign()).to(gradient_LS)
