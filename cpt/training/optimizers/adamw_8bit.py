"""AdamW whose moments of matrices take one byte per number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.errors import Problem, StageFailed
from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, Shape

if TYPE_CHECKING:
    import torch

    from cpt.training.groups import Group

BLOCK = 256
"""Numbers that share a scale: what bitsandbytes' kernels take."""

_MISSING = Problem("the 8-bit AdamW needs bitsandbytes", key="kind", hint="pip install 'cpt-workbench[8bit]'")


class AdamW8bit(MatrixConfig):
    """8-bit AdamW with block-wise dynamic quantisation (Dettmers et al. 2022, arXiv 2110.02861).

    Embeddings, norms and biases keep float32 moments: those of embeddings do not train stably in 8 bits
    (section 2.3). The kernels are bitsandbytes', for CUDA, ROCm, XPU and (slower than plain AdamW) the CPU.
    """

    kind: Literal["adamw-8bit"] = Field(
        default="adamw-8bit", description="AdamW with 8-bit moments of matrices; needs bitsandbytes."
    )

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of some groups of weights. The loop sets every group's rate before a step.

        Raises:
            StageFailed: bitsandbytes is not installed.
        """
        if self.problems():
            raise StageFailed(_MISSING.message, hint=_MISSING.hint)
        from cpt.training.optimizers.steps.adamw_8bit import AdamW8bitStep

        return AdamW8bitStep(groups, self)

    def problems(self) -> list[Problem]:
        """That bitsandbytes is not installed."""
        return [] if find_spec("bitsandbytes") else [_MISSING]

    def matrix_bytes(self, shape: Shape) -> int:
        """Two moments of one byte per number and one scale per block, and the count of steps."""
        numbers = math.prod(shape)
        return 2 * numbers + FLOAT_BYTES * (2 * math.ceil(numbers / BLOCK) + 1)
