"""FRUGAL: Adam on some columns of each matrix, the sign of the gradient on the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig
from cpt.training.optimizers.groups import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from cpt.training.optimizers.matrices import Matrix


class Frugal(MatrixConfig):
    """FRUGAL (Zmushko et al. 2024, arXiv 2411.07837, algorithm 1) with its column-wise projection.

    P chooses random columns: u = -lr·(P·Adam(PᵀG) + s·sign(G - P Pᵀ G)). Every `gap` steps the columns
    change and the moments, with their bias correction, start from zero. The columns follow from the seed,
    the weight's name and the number of the choice, and take no memory.

    Shapes: M and N, the rows and the columns of a matrix; K, the chosen columns.
    """

    kind: Literal["frugal"] = Field(
        default="frugal", description="Adam on a share of each matrix's columns, signSGD on the others."
    )
    density: float = Field(default=0.25, ge=0, le=1, description="Share of the columns that Adam moves.")
    gap: int = Field(default=200, gt=0, description="Steps between new choices of columns.")
    sign_scale: float = Field(
        default=1.0,
        ge=0,
        description="Multiple of the rate at which the other columns move; 0.1 for fine-tuning.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of columns.")

    def adam_columns(self, columns: int) -> int:
        """Return the number of a matrix's columns that Adam moves."""
        return round(self.density * columns)

    def initial_state(self, matrix: Matrix) -> dict[str, Tensor]:
        """Return the step count and zero moments of the chosen columns."""
        from cpt.training.optimizers.matrices import moments

        *rows, columns = matrix.gradient.shape
        return moments((*rows, self.adam_columns(columns)), matrix.gradient)

    def update(self, matrices: Sequence[Matrix], rate: float) -> None:
        """Take one step with matrices whose weight decay is already applied."""
        from cpt.training.optimizers.matrices import adam_directions

        chosen_K = [self._columns(matrix) for matrix in matrices]
        for matrix in matrices:
            if matrix.steps % self.gap == 0:
                matrix.state["exp_avg"].zero_()
                matrix.state["exp_avg_sq"].zero_()
        low_MK = [m.gradient.index_select(-1, columns) for m, columns in zip(matrices, chosen_K, strict=True)]
        steps = [(matrix.count_step() - 1) % self.gap + 1 for matrix in matrices]
        directions_MK = adam_directions(matrices, low_MK, steps, self)
        for matrix, columns_K, direction_MK in zip(matrices, chosen_K, directions_MK, strict=True):
            update_MN = matrix.gradient.sign().mul_(self.sign_scale)
            update_MN.index_copy_(-1, columns_K, direction_MK)
            matrix.weight.add_(update_MN, alpha=-rate)

    def _columns(self, matrix: Matrix) -> Tensor:
        """Return the indices of the current period's columns, in ascending order."""
        import torch

        from cpt.training.optimizers.matrices import random_stream

        period, device = matrix.steps // self.gap, matrix.gradient.device
        stream = random_stream(device, self.seed, matrix.name, period)
        order = torch.randperm(matrix.gradient.shape[-1], generator=stream, device=device)
        return order[: matrix.state["exp_avg"].shape[-1]].sort().values

    def matrix_bytes(self, shape: Shape) -> int:
        """Return the bytes of two moments of the chosen columns, and of the step count."""
        rows = math.prod(shape[:-1])
        return FLOAT_BYTES * (2 * rows * self.adam_columns(shape[-1]) + 1)
