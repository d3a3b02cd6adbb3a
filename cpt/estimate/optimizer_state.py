"""Bytes of state that an optimizer keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpt.training.groups import Kind
    from cpt.training.optimizers import AdamW


def state_bytes_of(config: AdamW, weights: Iterable[tuple[Kind, tuple[int, ...]]]) -> int:  # noqa: ARG001
    """Bytes of AdamW's state: two float32 moments of every weight, and a float32 count of steps per tensor.

    Args:
        weights: kind of group and shape of every trained weight.
    """
    return sum(8 * math.prod(shape) + 4 for _, shape in weights)
