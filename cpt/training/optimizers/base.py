"""Settings that every optimizer has."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from cpt.training.optimizers.groups import Group, Kind, Shape, is_matrix

if TYPE_CHECKING:
    import torch

    from cpt.errors import Problem
    from cpt.training.distributed.collectives import ProcessGroup
    from cpt.training.distributed.shared_work import Work
    from cpt.training.optimizers.matrices import Matrix

FLOAT_BYTES = 4
"""Bytes of a float32, the type of master weights and moments."""


class OptimizerConfig(BaseModel):
    """Settings of an optimizer. Every optimizer moves at least norms, biases and embeddings by AdamW.

    β2 is 0.95: with fresh state 0.999 leaves the second moment noisy for long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(default=1e-8, gt=0, description="Number added to the root of the second moment.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Weight decay of matrices and embeddings; norms and biases have none."
    )

    @abstractmethod
    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer of these groups. The loop sets the rate of each group before a step.

        All of its state is tensors in `state[weight]`, by name, so that a checkpoint can hold it.
        """

    @abstractmethod
    def state_bytes(self, kind: Kind, shape: Shape) -> int:
        """Return the bytes of state that one weight has after its first step."""

    def predicted_state_bytes(self, weights: Iterable[tuple[Kind, Shape]]) -> int:
        """Return the bytes of state of many weights, exactly, without building the optimizer.

        Args:
            weights: Kind of group and shape of every trained weight.
        """
        return sum(self.state_bytes(kind, tuple(shape)) for kind, shape in weights)

    def problems(self) -> list[Problem]:
        """Return what this machine lacks to build the optimizer; keys are relative to the settings."""
        return []


class MatrixConfig(OptimizerConfig):
    """Settings of an optimizer that has an update rule of its own for matrices, and AdamW for the rest.

    `initial_state` and `update` are the rule; they import torch when they are called.
    """

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer of these groups. The loop sets the rate of each group before a step."""
        from cpt.training.optimizers.matrices import MatrixOptimizer

        return MatrixOptimizer(groups, self)

    @abstractmethod
    def initial_state(self, matrix: Matrix) -> dict[str, torch.Tensor]:
        """Return the state of a matrix before its first step, as tensors by name."""

    @abstractmethod
    def update(self, matrices: Sequence[Matrix], rate: float) -> None:
        """Take one step with matrices whose weight decay is already applied.

        Args:
            matrices: Matrices that have a gradient and state; weights and state change in place.
            rate: Learning rate of this step.
        """

    def update_together(
        self,
        matrices: Sequence[Matrix],
        rate: float,
        replicas: ProcessGroup | None,  # noqa: ARG002
    ) -> None:
        """Take the same step as all replicas do, each by itself.

        Args:
            matrices: Matrices that have a gradient and state; weights and state change in place.
            rate: Learning rate of this step.
            replicas: Processes that take the same step with the same matrices; None if there are no others.
        """
        self.update(matrices, rate)

    @abstractmethod
    def matrix_bytes(self, shape: Shape) -> int:
        """Return the bytes of state of one matrix, or of a stack of matrices."""

    def state_bytes(self, kind: Kind, shape: Shape) -> int:
        """Return the bytes of state that one weight has after its first step."""
        return self.matrix_bytes(shape) if is_matrix(kind, shape) else adamw_bytes(shape)


class SharedMatrixConfig(MatrixConfig):
    """Settings of an optimizer whose rule does so much work on a matrix that replicas share it."""

    def update(self, matrices: Sequence[Matrix], rate: float) -> None:
        """Take one step alone; see `MatrixConfig`."""
        self.update_together(matrices, rate, None)

    @abstractmethod
    def update_together(self, matrices: Sequence[Matrix], rate: float, replicas: ProcessGroup | None) -> None:
        """Take the same step as all replicas do, of which each computes a part."""

    @abstractmethod
    def shared_work(self, shape: Shape) -> Work:
        """Return the work on one matrix, or on a stack of matrices, that replicas share."""


def adamw_bytes(shape: Shape) -> int:
    """Return the bytes of AdamW's state: two moments and the step count."""
    return FLOAT_BYTES * (2 * math.prod(shape) + 1)


def stack_and_sides(shape: Shape) -> tuple[int, int, int]:
    """Return the number of matrices in a stack, the longer side and the shorter side of each."""
    return math.prod(shape[:-2]), max(shape[-2:]), min(shape[-2:])
