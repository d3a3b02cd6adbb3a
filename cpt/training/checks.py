"""Proofs taken while training: documents do not see each other, and what should train does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from cpt.errors import StageFailed
from cpt.packed.batch import pack
from cpt.packed.model import PackedLanguageModel
from cpt.training.sharding import whole

_TOLERANCE = 1e-3


def check_isolation(model: PackedLanguageModel, first: np.ndarray, second: np.ndarray) -> None:
    """Change every token of one packed document: the loss of the other must not move.

    Args:
        first, second: token ids of two documents.
    """
    device = next(model.parameters()).device
    changed = np.roll(first, 1)
    changed[:] = changed[0] if (changed != changed[0]).any() else (changed[0] + 1) % int(first.max() + 2)
    losses = [
        model.token_nats(pack([document, second]).to(device))[len(first) :] for document in (first, changed)
    ]
    difference = float((losses[0] - losses[1]).abs().max())
    if difference > _TOLERANCE:
        raise StageFailed(
            f"packed documents see each other: changing one moved the next's loss by {difference:.3g} nats",
            hint="The model's architecture does not use the attention within documents; please report it.",
        )


class TrainingProof:
    """Remembers the weights before the first step and asserts afterwards that each one moved."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._before = _digest(weights)

    def check(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Raise if a trainable weight is what it was."""
        after = _digest(weights)
        still = [name for name, value in after.items() if torch.equal(value, self._before[name])]
        if still:
            shown = ", ".join(still[:5]) + (f" and {len(still) - 5} more" if len(still) > 5 else "")
            raise StageFailed(f"the first step left {len(still)} trainable tensors unchanged: {shown}")


def _digest(weights: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """A few sums of every tensor that a change of any element almost surely moves."""
    return {
        name: torch.stack(
            [whole(w.detach().sum(dtype=torch.float64)), whole(w.detach().norm(dtype=torch.float64))]
        )
        for name, w in weights.items()
    }
