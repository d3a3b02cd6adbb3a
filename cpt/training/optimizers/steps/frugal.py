"""FRUGAL's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cpt.training.optimizers.frugal import Frugal
from cpt.training.optimizers.steps.matrices import (
    Matrix,
    MatrixOptimizer,
    adam_directions,
    moments,
    random_stream,
)


class FrugalStep(MatrixOptimizer[Frugal]):
    """Shapes: M and N, a matrix's rows and columns; K, the chosen columns."""

    def _start(self, matrix: Matrix) -> dict[str, Tensor]:
        *rows, columns = matrix.gradient.shape
        return moments((*rows, self._config.chosen(columns)), matrix.gradient)

    def _move(self, matrices: Sequence[Matrix], rate: float) -> None:
        chosen_K = [self._columns(matrix) for matrix in matrices]
        for matrix in matrices:
            if matrix.steps % self._config.gap == 0:
                matrix.state["exp_avg"].zero_()
                matrix.state["exp_avg_sq"].zero_()
        low_MK = [m.gradient.index_select(-1, columns) for m, columns in zip(matrices, chosen_K, strict=True)]
        steps = [(matrix.count_step() - 1) % self._config.gap + 1 for matrix in matrices]
        directions_MK = adam_directions(matrices, low_MK, steps, self._config)
        for matrix, columns_K, direction_MK in zip(matrices, chosen_K, directions_MK, strict=True):
            update_MN = matrix.gradient.sign().mul_(self._config.sign_scale)
            update_MN.index_copy_(-1, columns_K, direction_MK)
            matrix.weight.add_(update_MN, alpha=-rate)

    def _columns(self, matrix: Matrix) -> Tensor:
        """The columns of the current period, in ascending order."""
        period, device = matrix.steps // self._config.gap, matrix.gradient.device
        stream = random_stream(device, self._config.seed, matrix.name, period)
        order = torch.randperm(matrix.gradient.shape[-1], generator=stream, device=device)
        return order[: matrix.state["exp_avg"].shape[-1]].sort().values
