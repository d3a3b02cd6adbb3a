"""AdamW whose moments of matrices take one byte per number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.errors import Problem, StageFailed
from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig
from cpt.training.optimizers.groups import Group, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cpt.training.optimizers.matrices import Matrix

BLOCK = 256
"""Numbers that share a scale; fixed in bitsandbytes' kernels."""

_MISSING = Problem("the 8-bit AdamW needs bitsandbytes", key="kind", hint="pip install 'cpt-workbench[8bit]'")


class AdamW8bit(MatrixConfig):
    """8-bit AdamW with block-wise dynamic quantisation (Dettmers et al. 2022, arXiv 2110.02861).

    Embeddings, norms and biases keep float32 moments: those of embeddings do not train stably in 8 bits
    (section 2.3). The kernels are bitsandbytes', for CUDA, ROCm, XPU and (slower than plain AdamW) the CPU.
    bitsandbytes' own optimizer keeps step counts and quantisation maps outside the optimizer state, where a
    checkpoint does not find them; its kernel takes them as arguments.
    """

    kind: Literal["adamw-8bit"] = Field(
        default="adamw-8bit", description="AdamW with 8-bit moments of matrices; needs bitsandbytes."
    )

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer of these groups. The loop sets the rate of each group before a step.

        Raises:
            StageFailed: bitsandbytes is not installed.
        """
        if self.problems():
            raise StageFailed(_MISSING.message, hint=_MISSING.hint)
        return super().build(groups)

    def problems(self) -> list[Problem]:
        """Return a problem if bitsandbytes is not installed."""
        return [] if find_spec("bitsandbytes") else [_MISSING]

    def initial_state(self, matrix: Matrix) -> dict[str, Tensor]:
        """Return the step count, two zero moments of one byte per number, and a scale per block of each."""
        import torch

        blocks = math.ceil(matrix.weight.numel() / BLOCK)
        state = {"step": torch.zeros((), dtype=torch.float32)}
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = torch.zeros_like(matrix.weight, dtype=torch.uint8)
            state[f"{moment}_scale"] = torch.zeros(blocks, dtype=torch.float32, device=matrix.weight.device)
        return state

    def update(self, matrices: Sequence[Matrix], rate: float) -> None:
        """Take one step of Adam with matrices whose weight decay is already applied."""
        import bitsandbytes.functional as kernels

        signed, unsigned = _quantisation_maps(matrices[0].weight.device)
        for matrix in matrices:
            kernels.optimizer_update_8bit_blockwise(
                "adam",
                matrix.gradient.contiguous(),
                matrix.weight,
                matrix.state["exp_avg"],
                matrix.state["exp_avg_sq"],
                self.beta1,
                self.beta2,
                beta3=0.0,
                alpha=0.0,
                eps=self.eps,
                step=matrix.count_step(),
                lr=rate,
                qmap1=signed,
                qmap2=unsigned,
                absmax1=matrix.state["exp_avg_scale"],
                absmax2=matrix.state["exp_avg_sq_scale"],
            )

    def matrix_bytes(self, shape: Shape) -> int:
        """Return the bytes of two moments of one byte per number, one scale per block, and the step count."""
        numbers = math.prod(shape)
        return 2 * numbers + FLOAT_BYTES * (2 * math.ceil(numbers / BLOCK) + 1)


@cache
def _quantisation_maps(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the values of the 256 codes, for signed and for unsigned numbers."""
    import bitsandbytes.functional as kernels

    return kernels.create_dynamic_map(True).to(device), kernels.create_dynamic_map(False).to(device)
