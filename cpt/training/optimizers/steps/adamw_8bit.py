"""The step of AdamW with 8-bit moments, in bitsandbytes' kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import bitsandbytes.functional as kernels
import torch
from torch import Tensor

from cpt.training.groups import Group
from cpt.training.optimizers.adamw_8bit import BLOCK, AdamW8bit
from cpt.training.optimizers.steps.matrices import Matrix, MatrixOptimizer


class AdamW8bitStep(MatrixOptimizer[AdamW8bit]):
    """bitsandbytes' own optimizer keeps counts and quantisation maps where a checkpoint does not see them;
    its kernel takes them from anywhere.
    """

    def __init__(self, groups: Sequence[Group], config: AdamW8bit) -> None:
        super().__init__(groups, config)
        self._signed, self._unsigned = (kernels.create_dynamic_map(signed) for signed in (True, False))

    def _start(self, matrix: Matrix) -> dict[str, Tensor]:
        blocks = math.ceil(matrix.weight.numel() / BLOCK)
        state = {"step": torch.zeros((), dtype=torch.float32)}
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = torch.zeros_like(matrix.weight, dtype=torch.uint8)
            state[f"{moment}_scale"] = torch.zeros(blocks, dtype=torch.float32, device=matrix.weight.device)
        return state

    def _move(self, matrices: Sequence[Matrix], rate: float) -> None:
        device = matrices[0].weight.device
        self._signed, self._unsigned = self._signed.to(device), self._unsigned.to(device)
        for matrix in matrices:
            kernels.optimizer_update_8bit_blockwise(
                "adam",
                matrix.gradient.contiguous(),
                matrix.weight,
                matrix.state["exp_avg"],
                matrix.state["exp_avg_sq"],
                self._config.beta1,
                self._config.beta2,
                beta3=0.0,
                alpha=0.0,
                eps=self._config.eps,
                step=matrix.count_step(),
                lr=rate,
                qmap1=self._signed,
                qmap2=self._unsigned,
                absmax1=matrix.state["exp_avg_scale"],
                absmax2=matrix.state["exp_avg_sq_scale"],
            )
