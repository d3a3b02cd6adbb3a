"""APOLLO: the whole gradient, scaled as Adam scales a random projection of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, Shape, tall

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group


class ApolloConfig(MatrixConfig):
    """What APOLLO and APOLLO-Mini share (Zhu et al. 2024, arXiv 2412.05270, algorithm 1).

    R = G P with P random normal of variance 1/rank, N = Adam's direction of R, s_j = ‖N_j‖/‖R_j‖ for each
    channel j, W -= lr·√scale·(G·s). Channels lie along the longer side. The norm of G·s may grow by the
    limiter from step to step (Chen et al. 2024, arXiv 2410.01623). P is drawn anew from the seed, the
    weight's name and the number of the projection whenever it is needed, and takes no memory.
    """

    by_channel: ClassVar[bool]
    """Whether each channel has a scaling of its own, or the matrix has one."""

    rank: int
    scale: float
    gap: int = Field(default=200, gt=0, description="Steps between new projections.")
    limiter: float = Field(
        default=1.01, ge=1, description="Most that the norm of a matrix's update may grow by in a step."
    )
    seed: int = Field(default=0, ge=0, description="Of the random projections.")

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step."""
        from cpt.training.optimizers.steps.apollo import ApolloStep

        return ApolloStep(groups, self)

    def matrix_bytes(self, shape: Shape) -> int:
        """Two moments of the rank by the longer side, the last update's norm, and the count of steps."""
        stack, long, short = tall(shape)
        return FLOAT_BYTES * (stack * (2 * min(self.rank, short) * long + 1) + 1)


class Apollo(ApolloConfig):
    """APOLLO: one scaling per channel."""

    by_channel: ClassVar[bool] = True

    kind: Literal["apollo"] = Field(
        default="apollo", description="Gradients scaled by channel as Adam would in a random projection."
    )
    rank: int = Field(
        default=256, gt=0, description="Of the projection; at most a matrix's shorter side is used."
    )
    scale: float = Field(default=1.0, gt=0, description="Its root multiplies the rate of matrices.")


class ApolloMini(ApolloConfig):
    """APOLLO-Mini: rank 1 and one scaling per matrix; hardly more memory than plain gradient descent."""

    by_channel: ClassVar[bool] = False

    kind: Literal["apollo-mini"] = Field(
        default="apollo-mini", description="Gradients scaled by matrix as Adam would in a random projection."
    )
    rank: int = Field(
        default=1, gt=0, description="Of the projection; at most a matrix's shorter side is used."
    )
    scale: float = Field(default=128.0, gt=0, description="Its root multiplies the rate of matrices.")
