"""FRUGAL: Adam on some columns of each matrix, the sign of the gradient on the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, Shape

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group


class Frugal(MatrixConfig):
    """FRUGAL (Zmushko et al. 2024, arXiv 2411.07837, algorithm 1) with its column-wise projection.

    P chooses random columns: u = -lr·(P·Adam(PᵀG) + s·sign(G - P Pᵀ G)). Every `gap` steps the columns
    change and the moments, with their bias correction, start from zero. The columns follow from the seed,
    the weight's name and the number of the choice, and take no memory.
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
    seed: int = Field(default=0, ge=0, description="Of the choice of columns.")

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step."""
        from cpt.training.optimizers.steps.frugal import FrugalStep

        return FrugalStep(groups, self)

    def chosen(self, columns: int) -> int:
        """How many of a matrix's columns Adam moves."""
        return round(self.density * columns)

    def matrix_bytes(self, shape: Shape) -> int:
        """Two moments of the chosen columns, and the count of steps."""
        rows = math.prod(shape[:-1])
        return FLOAT_BYTES * (2 * rows * self.chosen(shape[-1]) + 1)
