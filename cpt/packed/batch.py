"""A packed batch: many documents laid end to end in one row, each a world of its own.

Shapes: T tokens, D documents (pieces).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cpt.packed.attention import DocumentLayout

IGNORED = -100
"""Label of a position on which no loss is taken."""


@dataclass(frozen=True)
class PackedBatch:
    """Documents laid end to end.

    Attributes:
        input_ids: [1, T] token ids.
        position_ids: [1, T], restarting at 0 with every document.
        labels: [T] the token that follows in the same document, `IGNORED` at each document's last token.
        layout: where each document lies, for the attention.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    layout: DocumentLayout

    @property
    def tokens(self) -> int:
        """Number of tokens T."""
        return self.input_ids.shape[1]

    @property
    def targets(self) -> int:
        """Number of positions on which a loss is taken: T minus one per document."""
        return self.tokens - len(self.layout.lengths)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            labels=self.labels.to(device),
            layout=self.layout.to(device),
        )


def pack(documents: Sequence[np.ndarray]) -> PackedBatch:
    """Lay documents (one-dimensional arrays of token ids, none empty) end to end."""
    lengths = [len(document) for document in documents]
    ids = torch.from_numpy(np.concatenate(documents).astype(np.int64))  # [T]
    labels = torch.roll(ids, -1)
    ends = torch.tensor(lengths).cumsum(0) - 1
    labels[ends] = IGNORED
    positions = torch.cat([torch.arange(length) for length in lengths])
    return PackedBatch(ids[None], positions[None], labels, DocumentLayout.of(lengths))
