"""A packed batch: many documents laid end to end in one row, each a world of its own.

Shapes: T tokens, D documents (pieces).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cpt.models.attention import DocumentLayout

IGNORED = -100
"""Label of a position on which no loss is taken."""


@dataclass(frozen=True)
class PackedBatch:
    """Documents laid end to end.

    Attributes:
        input_ids: [1, T] token ids.
        position_ids: [1, T], restarting at 0 with every document.
        labels: [T] the token that follows in the same document, `IGNORED` at each document's last token.
        learned: [N] the positions that have a label, found where the batch is made: to look for them on a
            GPU would make the host wait for it.
        layout: where each document lies, for the attention.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    learned: torch.Tensor
    layout: DocumentLayout

    @property
    def tokens(self) -> int:
        """Number of tokens T."""
        return self.input_ids.shape[1]

    @property
    def targets(self) -> int:
        """Number of positions on which a loss is taken: T minus one per document."""
        return len(self.learned)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device; from pinned memory the copy does not hold up the host."""
        overlaps = torch.device(device).type == "cuda"
        return self._each(lambda tensor: tensor.to(device, non_blocking=overlaps))

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PackedBatch:
        return PackedBatch(
            change(self.input_ids),
            change(self.position_ids),
            change(self.labels),
            change(self.learned),
            replace(self.layout, boundaries=change(self.layout.boundaries)),
        )


def pack(documents: Sequence[np.ndarray]) -> PackedBatch:
    """Lay documents (one-dimensional arrays of token ids, none empty) end to end."""
    lengths = [len(document) for document in documents]
    ids = torch.from_numpy(np.concatenate(documents).astype(np.int64))  # [T]
    labels = torch.roll(ids, -1)
    ends = torch.tensor(lengths).cumsum(0) - 1
    labels[ends] = IGNORED
    positions = torch.cat([torch.arange(length) for length in lengths])
    learned = (labels != IGNORED).nonzero().squeeze(1)
    return PackedBatch(ids[None], positions[None], labels, learned, DocumentLayout.of(lengths))
