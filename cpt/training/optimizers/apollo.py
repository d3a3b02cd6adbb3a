"""APOLLO: the whole gradient, scaled as Adam scales a random projection of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, stack_and_sides
from cpt.training.optimizers.groups import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from cpt.training.optimizers.matrices import Matrix

_TINY = 1e-8
"""Keeps the scaling of a channel without gradient finite; the channel does not move."""


class ApolloConfig(MatrixConfig):
    """Settings and update rule of APOLLO and APOLLO-Mini (Zhu et al. 2024, arXiv 2412.05270, algorithm 1).

    R = G P with P random normal of variance 1/rank, N = Adam's direction of R, s_j = ‖N_j‖/‖R_j‖ for each
    channel j, W -= lr·√scale·(G·s). Channels run along the longer side. The norm of G·s may grow by the
    limiter from step to step (Chen et al. 2024, arXiv 2410.01623). P is drawn anew from the seed, the
    weight's name and the number of the projection whenever it is needed, and takes no memory.

    Shapes: L and S, the longer and the shorter side of a matrix; R, the rank; C, channels: L or 1.
    """

    by_channel: ClassVar[bool]
    """True if each channel has a scaling, False if the whole matrix has one."""

    rank: int
    scale: float
    gap: int = Field(default=200, gt=0, description="Steps between new projections.")
    limiter: float = Field(
        default=1.01, ge=1, description="Largest growth of the norm of a matrix's update from step to step."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random projections.")

    def initial_state(self, matrix: Matrix) -> dict[str, Tensor]:
        """Return the step count, zero moments in the projected shape, and the norm of the last update."""
        from cpt.training.optimizers.matrices import moments, tall_view

        gradient_LS = tall_view(matrix.gradient)
        rank = min(self.rank, gradient_LS.shape[-1])
        norm = gradient_LS.new_zeros((*gradient_LS.shape[:-2], 1, 1))
        return moments((*gradient_LS.shape[:-1], rank), gradient_LS) | {"update_norm": norm}

    def update(self, matrices: Sequence[Matrix], rate: float) -> None:
        """Take one step with matrices whose weight decay is already applied."""
        from cpt.training.optimizers.matrices import adam_directions, tall_view

        low_LR = [tall_view(matrix.gradient) @ self.projection(matrix) for matrix in matrices]
        steps = [matrix.count_step() for matrix in matrices]
        directions_LR = adam_directions(matrices, low_LR, steps, self)
        across = -1 if self.by_channel else (-2, -1)
        for matrix, gradient_LR, direction_LR in zip(matrices, low_LR, directions_LR, strict=True):
            lengths_C1 = gradient_LR.norm(dim=across, keepdim=True) + _TINY
            scaling_C1 = direction_LR.norm(dim=across, keepdim=True) / lengths_C1
            update_LS = self._limited(tall_view(matrix.gradient) * scaling_C1, matrix.state)
            tall_view(matrix.weight).add_(update_LS, alpha=-rate * math.sqrt(self.scale))

    def projection(self, matrix: Matrix) -> Tensor:
        """Return P of the current period [S, R], the same for all matrices of a stack."""
        import torch

        from cpt.training.optimizers.matrices import random_stream, tall_view

        shape = tall_view(matrix.gradient).shape[-1], matrix.state["exp_avg"].shape[-1]
        period, device = matrix.steps // self.gap, matrix.gradient.device
        stream = random_stream(device, self.seed, matrix.name, period)
        normal_SR = torch.randn(shape, generator=stream, dtype=matrix.gradient.dtype, device=device)
        return normal_SR / math.sqrt(shape[1])

    def _limited(self, update_LS: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return the update, at most `limiter` times as long as the last one, unless that was zero."""
        import torch

        norm, last = update_LS.norm(dim=(-2, -1), keepdim=True), state["update_norm"]
        allowed = torch.where(last > 0, torch.minimum(norm, self.limiter * last), norm)
        state["update_norm"] = allowed
        return update_LS.mul_(torch.where(norm > 0, allowed / norm, 1.0))

    def matrix_bytes(self, shape: Shape) -> int:
        """Return the bytes of two moments (rank by longer side), the last norm, and the step count."""
        stack, long, short = stack_and_sides(shape)
        return FLOAT_BYTES * (stack * (2 * min(self.rank, short) * long + 1) + 1)


class Apollo(ApolloConfig):
    """APOLLO: one scaling per channel."""

    by_channel: ClassVar[bool] = True

    kind: Literal["apollo"] = Field(
        default="apollo", description="Gradients scaled by channel as Adam would in a random projection."
    )
    rank: int = Field(
        default=256, gt=0, description="Rank of the projection, at most the shorter side of a matrix."
    )
    scale: float = Field(default=1.0, gt=0, description="Number whose root multiplies the rate of matrices.")


class ApolloMini(ApolloConfig):
    """APOLLO-Mini: rank 1 and one scaling per matrix; hardly more memory than plain gradient descent."""

    by_channel: ClassVar[bool] = False

    kind: Literal["apollo-mini"] = Field(
        default="apollo-mini", description="Gradients scaled by matrix as Adam would in a random projection."
    )
    rank: int = Field(
        default=1, gt=0, description="Rank of the projection, at most the shorter side of a matrix."
    )
    scale: float = Field(
        default=128.0, gt=0, description="Number whose root multiplies the rate of matrices."
    )
