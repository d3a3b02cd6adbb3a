"""What every optimizer's settings have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cpt.errors import Problem
    from cpt.training.groups import Group, Kind

FLOAT_BYTES = 4
"""Of float32, in which master weights and moments are kept."""

Shape = tuple[int, ...]


class OptimizerConfig(BaseModel):
    """Settings that every optimizer has: all of them move at least norms, biases and embeddings by AdamW.

    β2 is 0.95: with fresh state 0.999 leaves the second moment noisy for long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    needs_whole_matrices: ClassVar[bool] = False
    """Whether an element's update depends on more than its own gradients (then FSDP2 is refused)."""

    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decay of matrices; norms and biases have none."
    )

    @abstractmethod
    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step.

        All of its state is tensors in `state[weight]`, by name, so that a checkpoint can keep it.
        """

    @abstractmethod
    def state_bytes(self, kind: Kind, shape: Shape) -> int:
        """Bytes of state that one weight has from its first step on."""

    def predicted_state_bytes(self, weights: Iterable[tuple[Kind, Shape]]) -> int:
        """Bytes of state that weights of some kinds and shapes will have."""
        return sum(self.state_bytes(kind, tuple(shape)) for kind, shape in weights)

    def problems(self) -> list[Problem]:
        """What is missing here to build it; keys are relative to the settings."""
        return []


class MatrixConfig(OptimizerConfig):
    """Settings of an optimizer that has a way of its own with matrices, and AdamW for the rest."""

    needs_whole_matrices: ClassVar[bool] = True

    @abstractmethod
    def matrix_bytes(self, shape: Shape) -> int:
        """Bytes of state of one matrix, or of a stack of them."""

    def state_bytes(self, kind: Kind, shape: Shape) -> int:
        """Bytes of state that one weight has from its first step on."""
        return self.matrix_bytes(shape) if is_matrix(kind, shape) else adamw_bytes(shape)


def is_matrix(kind: Kind, shape: Sequence[int]) -> bool:
    """Whether a weight is a matrix, or a stack of them (experts), rather than a row of separate numbers."""
    return kind == "matrix" and len(shape) > 1 and min(shape[-2:]) > 1


def adamw_bytes(shape: Shape) -> int:
    """Bytes of AdamW's state: two moments, and the count of steps."""
    return FLOAT_BYTES * (2 * math.prod(shape) + 1)


def tall(shape: Shape) -> tuple[int, int, int]:
    """Number of matrices in a stack, their longer and their shorter side."""
    return math.prod(shape[:-2]), max(shape[-2:]), min(shape[-2:])


def param_group(group: Group, weights: Mapping[str, nn.Parameter], weight_decay: float) -> dict[str, Any]:
    """A group of weights (or some of them) as torch's optimizers take it."""
    return {
        "params": list(weights.values()),
        "weight_decay": 0.0 if group.kind == "vector" else weight_decay,
        "name": group.name,
        "multiple": group.rate,
    }
