"""Rows of new tokens as weights of their own, though they lie in a matrix with those of old tokens.

So an optimizer treats them as a group: with a rate of their own, or alone, with no state and no decay for the
rows beside them. Before each step they take their gradients out of the matrix's, after it they are written
back into the matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from cpt.training.groups import NEW_ROWS


class NewRows:
    """The rows of new tokens, cut out of float32 matrices [V, H].

    Attributes:
        weights: [N, H] by the matrix's name and `NEW_ROWS`.
        tokens: [N] their ids.
    """

    def __init__(self, matrices: Mapping[str, nn.Parameter], tokens: torch.Tensor) -> None:
        """Copy rows `tokens` [N] of every matrix."""
        self._matrices = matrices
        device = next((matrix.device for matrix in matrices.values()), tokens.device)
        self.tokens = tokens.to(device)
        self.weights = {
            name + NEW_ROWS: nn.Parameter(matrix.detach()[self.tokens]) for name, matrix in matrices.items()
        }

    def take_gradients(self) -> None:
        """Move the rows' gradients from the matrices' to theirs."""
        for name, matrix in self._matrices.items():
            if matrix.grad is not None:
                self.weights[name + NEW_ROWS].grad = matrix.grad[self.tokens]
                matrix.grad[self.tokens] = 0

    @torch.no_grad()
    def write(self) -> None:
        """Write the rows into the matrices."""
        for name, matrix in self._matrices.items():
            matrix[self.tokens] = self.weights[name + NEW_ROWS]
