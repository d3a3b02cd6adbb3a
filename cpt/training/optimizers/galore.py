"""GaLore: Adam in the leading directions of the gradient."""

from __future__ import annotations

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


class GaLore(SharedMatrixConfig):
    """GaLore (Zhao et al. 2024, arXiv 2403.03507, algorithm 2).

    For a matrix with at least as many rows as columns, P = V_r of the gradient's singular value
    decomposition, R = G P, and W -= lr·scale·N Pᵀ with Adam's direction N of R. Wide matrices do the same
    with U_r. The moments stay when P changes.

    Shapes: L and S, the longer and the shorter side of a matrix; R, the rank.
    """

    kind: Literal["galore"] = Field(
        default="galore", description="Adam in the leading directions of each matrix's gradient."
    )
    rank: int = Field(
        default=128, gt=0, description="Number of directions, at most the shorter side of a matrix."
    )
    gap: int = Field(default=200, gt=0, description="Steps between new projections.")
    scale: float = Field(default=0.25, gt=0, description="Multiple of the rate at which matrices move.")

    def initial_state(self, matrix: Matrix) -> dict[str, Tensor]:
        """Return the step count, zero moments in the projected shape, and the projection."""
        from cpt.training.optimizers.matrices import moments, tall_view

        gradient_LS = tall_view(matrix.gradient)
        rank = min(self.rank, gradient_LS.shape[-1])
        projection_SR = gradient_LS.new_zeros((*gradient_LS.shape[:-2], gradient_LS.shape[-1], rank))
        return moments((*gradient_LS.shape[:-1], rank), gradient_LS) | {"projection": projection_SR}

    def update_together(self, matrices: Sequence[Matrix], rate: float, replicas: ProcessGroup | None) -> None:
        """Take one step with matrices whose weight decay is already applied."""
        from cpt.training.distributed.shared_work import computed_once
        from cpt.training.optimizers.matrices import adam_directions, tall_view

        due = [matrix for matrix in matrices if matrix.steps % self.gap == 0]
        works = [self.shared_work(tuple(matrix.gradient.shape)) for matrix in due]

        def compute(number: int) -> Tensor:
            return leading_directions(tall_view(due[number].gradient), works[number].shape[-1])

        for number, projection_SR in computed_once(works, compute, replicas):
            due[number].state["projection"].copy_(projection_SR)
        low_LR = [tall_view(matrix.gradient) @ matrix.state["projection"] for matrix in matrices]
        steps = [matrix.count_step() for matrix in matrices]
        directions_LR = adam_directions(matrices, low_LR, steps, self)
        for matrix, direction_LR in zip(matrices, directions_LR, strict=True):
            update_LS = direction_LR @ matrix.state["projection"].mT
            tall_view(matrix.weight).add_(update_LS, alpha=-rate * self.scale)

    def shared_work(self, shape: Shape) -> Work:
        """Return the work of a projection: GᵀG, and 9 S³ for the eigenvectors of a symmetric matrix."""
        from cpt.training.distributed.shared_work import Work

        stack, long, short = stack_and_sides(shape)
        rank = min(self.rank, short)
        return Work(stack * short**2 * (2 * long + 9 * short), (*shape[:-2], short, rank))

    def matrix_bytes(self, shape: Shape) -> int:
        """Return the bytes of two moments (rank by longer side), the projection, and the step count."""
        stack, long, short = stack_and_sides(shape)
        rank = min(self.rank, short)
        return FLOAT_BYTES * (stack * rank * (2 * long + short) + 1)


def leading_directions(gradient_LS: Tensor, rank: int) -> Tensor:
    """Return the right singular vectors of the largest singular values as orthonormal columns [..., S, R].

    They are the eigenvectors of GᵀG, in float64, where squaring loses nothing that float32 has: cheaper
    than the decomposition of G. Their sign is arbitrary; it is chosen so that the entry of the largest size
    is positive, and results do not depend on the library.
    """
    import torch

    device = "cpu" if gradient_LS.device.type == "mps" else gradient_LS.device  # mps has no float64
    double_LS = gradient_LS.to(device, torch.float64)
    _, vectors_SS = torch.linalg.eigh(double_LS.mT @ double_LS)
    leading_SR = vectors_SS.flip(-1)[..., :rank]
    largest_R = leading_SR.gather(-2, leading_SR.abs().argmax(-2, keepdim=True))
    return (leading_SR * largest_R.sign()).to(gradient_LS)
