"""GaLore: Adam in the leading directions of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, Shape, tall

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group


class GaLore(MatrixConfig):
    """GaLore (Zhao et al. 2024, arXiv 2403.03507, algorithm 2): P = V_r of the gradient's singular value
    decomposition for matrices with at least as many rows as columns, R = G P, W -= lr·scale·N Pᵀ with Adam's
    direction N of R; wide matrices likewise with U_r. The moments stay when P changes.
    """

    kind: Literal["galore"] = Field(
        default="galore", description="Adam in the leading directions of each matrix's gradient."
    )
    rank: int = Field(default=128, gt=0, description="Directions; at most a matrix's shorter side is used.")
    gap: int = Field(default=200, gt=0, description="Steps between new projections.")
    scale: float = Field(default=0.25, gt=0, description="Multiple of the rate at which matrices move.")

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step."""
        from cpt.training.optimizers.steps.galore import GaLoreStep

        return GaLoreStep(groups, self)

    def matrix_bytes(self, shape: Shape) -> int:
        """Two moments of rank by longer side, the projection of the shorter side, and the count of steps."""
        stack, long, short = tall(shape)
        rank = min(self.rank, short)
        return FLOAT_BYTES * (stack * rank * (2 * long + short) + 1)
