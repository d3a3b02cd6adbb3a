"""What the process itself takes: interpreter and libraries, and what the C library keeps of freed memory."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from cpt.estimate.timeline import Block

_STATUS = Path("/proc/self/status")

MAPPED_FROM = 32 << 20
"""glibc's malloc takes blocks of 32 MiB and more (DEFAULT_MMAP_THRESHOLD_MAX, 64-bit) straight from the
system and gives them straight back; smaller ones come from its heap."""

HEAP_HOLES = 0.7
"""Bytes of freed memory that the heap cannot use again, per byte of activations in it: long-lived gradients
and optimizer state settle where activations were, and aligned requests do not fit holes of their own size.
Measured with glibc 2.36 on runs of a 135M model: 0.5 to 1.0, and by 0.2 different when the same run is
started again."""


def resident_bytes() -> int:
    """Memory of this process that is in RAM now (where the system does not tell: the most so far)."""
    if _STATUS.exists():
        return _status("VmRSS")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_resident_bytes() -> int:
    """The most memory that this process has ever had in RAM."""
    if _STATUS.exists():
        return _status("VmHWM")
    return resident_bytes()


def _status(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def heap_holes(held: Iterable[Block]) -> int:
    """Freed memory that the process still has when it holds these blocks."""
    if platform.libc_ver()[0] != "glibc":
        return 0
    activations = sum(b.bytes for b in held if b.part == "activations" and b.bytes < MAPPED_FROM)
    return round(HEAP_HOLES * activations)
