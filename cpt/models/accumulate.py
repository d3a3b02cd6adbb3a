"""Adding a gradient of lower precision to a float32 total."""

from __future__ import annotations

import torch

_PART = 2**22
"""Numbers whose float32 copy (16 MB) an allocator still finds among what was freed."""


def accumulate(total: torch.Tensor, addend: torch.Tensor) -> None:
    """Add in place, part by part: a float32 copy of a whole embedding is fresh memory, slow to touch."""
    total, addend = torch.atleast_1d(total), torch.atleast_1d(addend)
    rows = max(1, _PART * len(total) // max(1, total.numel()))
    for into, part in zip(total.split(rows), addend.split(rows), strict=True):
        into.add_(part)
