"""Muon: momentum, made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, Shape

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group


class Muon(MatrixConfig):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): W -= lr·c·NewtonSchulz(momentum).

    `match-adamw` has c = 0.2·√max(m, n): updates as large as AdamW's, whose rate and decay can be kept
    (Liu et al. 2025, arXiv 2502.16982, section 2.2). `original` has c = √max(1, m/n).
    """

    kind: Literal["muon"] = Field(default="muon", description="Orthogonal updates of matrices.")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Decay of the momentum.")
    nesterov: bool = Field(default=True, description="Look ahead by one step of momentum.")
    newton_schulz_steps: int = Field(
        default=5, gt=0, lt=100, description="Iterations that make an update orthogonal."
    )
    adjust: Literal["match-adamw", "original"] = Field(
        default="match-adamw", description="How large an update is for a matrix's shape."
    )

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step."""
        from cpt.training.optimizers.steps.muon import MuonStep

        return MuonStep(groups, self)

    def size(self, rows: int, columns: int) -> float:
        """c: the multiple of the rate for a matrix's shape."""
        if self.adjust == "original":
            return math.sqrt(max(1.0, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))

    def matrix_bytes(self, shape: Shape) -> int:
        """The momentum."""
        return FLOAT_BYTES * math.prod(shape)
