"""Norms of new tokens' embeddings, relative to those of the old tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from cpt.monitor.probe_work import NEW_TOKENS
from cpt.monitor.probes.base import ModelView
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When


@dataclass(frozen=True)
class NewTokensProbe:
    """Mean norm of the rows of new tokens over that of all others, of the input and the output embedding.

    The value is that of the input embedding. Rows far smaller or larger than others are trained too little.

    Attributes:
        ids: Ids of the new tokens.
    """

    ids: Sequence[int]
    when: When
    name: str = "new-tokens"

    kind: ClassVar[Kind] = "new-tokens"
    unit: ClassVar[Unit] = "norm ratio"
    divisible: ClassVar[bool] = False
    items: ClassVar[int | None] = None
    relative: ClassVar[bool] = False
    work: ClassVar[float] = NEW_TOKENS

    @torch.no_grad()
    def read(self, view: ModelView, share: float) -> Items:  # noqa: ARG002
        """Return one item: the mean norms of new and of old rows."""
        embeddings, head = view.module.embeddings()
        new, old = self._mean_norms(embeddings)
        new_output, old_output = self._mean_norms(head)
        detail = {"input": new / old, "output": new_output / old_output}
        return Items(np.array([new]), np.array([old]), detail)

    def _mean_norms(self, matrix: torch.Tensor) -> tuple[float, float]:
        norms = torch.linalg.vector_norm(matrix.float(), dim=1)  # [V]
        is_new = torch.zeros(len(norms), dtype=torch.bool, device=norms.device)
        is_new[list(self.ids)] = True
        return float(norms[is_new].mean()), float(norms[~is_new].mean())
