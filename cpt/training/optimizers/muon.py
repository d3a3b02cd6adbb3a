"""Muon: orthogonalised momentum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.optimizers.base import FLOAT_BYTES, SharedMatrixConfig, stack_and_sides
from cpt.training.optimizers.groups import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from cpt.training.distributed.collectives import ProcessGroup
    from cpt.training.distributed.shared_work import Work
    from cpt.training.optimizers.matrices import Matrix

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration: steepest at zero, singular values end between about 0.7 and 1.2."""

_TINY = 1e-7
"""Smallest norm to divide by."""


class Muon(SharedMatrixConfig):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): W -= lr·c·NewtonSchulz(momentum).

    `match-adamw` has c = 0.2·√max(m, n): updates as large as AdamW's, whose rate and decay can be kept
    (Liu et al. 2025, arXiv 2502.16982, section 2.2). `original` has c = √max(1, m/n). The step is that of
    `torch.optim.Muon`, also for stacks of matrices.
    """

    kind: Literal["muon"] = Field(default="muon", description="Orthogonal updates of matrices.")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Decay of the momentum.")
    nesterov: bool = Field(default=True, description="Look ahead by one step of momentum.")
    newton_schulz_steps: int = Field(
        default=5, gt=0, lt=100, description="Iterations that make an update orthogonal."
    )
    adjust: Literal["match-adamw", "original"] = Field(
        default="match-adamw", description="How the size of an update depends on a matrix's shape."
    )

    def size(self, rows: int, columns: int) -> float:
        """Return c, the multiple of the rate for a matrix of this shape."""
        if self.adjust == "original":
            return math.sqrt(max(1.0, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))

    def initial_state(self, matrix: Matrix) -> dict[str, Tensor]:
        """Return the zero momentum."""
        import torch

        return {"momentum": torch.zeros_like(matrix.gradient)}

    def update_together(self, matrices: Sequence[Matrix], rate: float, replicas: ProcessGroup | None) -> None:
        """Take one step with matrices whose weight decay is already applied."""
        import torch

        from cpt.training.distributed.shared_work import computed_once

        gradients = [matrix.gradient for matrix in matrices]
        averages = [matrix.state["momentum"] for matrix in matrices]
        torch._foreach_lerp_(averages, gradients, 1 - self.momentum)

        def compute(number: int) -> Tensor:
            average = averages[number]
            if self.nesterov:
                average = torch.lerp(gradients[number], average, self.momentum)
            return orthogonal(average, self.newton_schulz_steps)

        works = [self.shared_work(tuple(matrix.weight.shape)) for matrix in matrices]
        for number, update in computed_once(works, compute, replicas):
            weight = matrices[number].weight
            weight.add_(update, alpha=-rate * self.size(*weight.shape[-2:]))

    def shared_work(self, shape: Shape) -> Work:
        """Return the work of Newton-Schulz: per iteration two products with the longer side, one without."""
        import torch

        from cpt.training.distributed.shared_work import Work

        stack, long, short = stack_and_sides(shape)
        return Work(stack * short**2 * (2 * long + short), shape, torch.bfloat16)

    def matrix_bytes(self, shape: Shape) -> int:
        """Return the bytes of the momentum."""
        return FLOAT_BYTES * math.prod(shape)


def orthogonal(x: Tensor, iterations: int) -> Tensor:
    """Return nearly U Vᵀ of x = U Σ Vᵀ, by Newton-Schulz in bfloat16: X ← aX + (bXXᵀ + c(XXᵀ)²)X.

    Args:
        x: Matrices [..., M, N].
        iterations: Number of iterations.
    """
    import torch

    a, b, c = _QUINTIC
    stack = x.reshape(-1, *x.shape[-2:]).bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    wide = stack.mT if is_tall else stack  # XXᵀ is then the smaller of the two products
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=_TINY)
    for _ in range(iterations):
        gram = wide @ wide.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        wide = torch.baddbmm(wide, factor, wide, beta=a)
    return (wide.mT if is_tall else wide).reshape(x.shape)
