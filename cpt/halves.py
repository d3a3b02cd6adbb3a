"""Divide data into two halves: one by which a result is chosen, and one that is reported.

The best of many merges, or of many points of a training, is biased on the data that it was chosen by.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

Half = Literal["search", "report"]


def half_of(text: str) -> Half:
    """Return the half that a text belongs to, by a bit of its hash."""
    return "search" if sha256(text.encode()).digest()[-1] & 1 else "report"
