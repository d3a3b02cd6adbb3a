"""What the process itself takes: interpreter and libraries, and what the C library keeps of freed memory."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from cpt.estimate.timeline import Block

_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")

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


def container_limit(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes of memory that its control groups (Linux, versions 1 and 2) allow this process at most."""
    limits = []
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(mounted, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(mounted / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(mounted: Path, path: str, file: str) -> list[int]:
    """Those of a group and of all that it is part of; from within a container its own is the mounted one."""
    group = mounted / path.lstrip("/")
    files = [folder / file for folder in (group, *group.parents) if folder.is_relative_to(mounted)]
    texts = [each.read_text().strip() for each in files if each.is_file()]
    return [int(text) for text in texts if text.isdecimal()]


def available_bytes() -> int | None:
    """Memory that this process can still get without swapping; None where the system does not tell."""
    if not _MEMORY.exists():
        return None
    lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit = container_limit()
    return free if limit is None else min(free, limit - resident_bytes())


def _status(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def heap_holes(held: Iterable[Block]) -> int:
    """Freed memory that the process still has when it holds these blocks."""
    if platform.libc_ver()[0] != "glibc":
        return 0
    activations = sum(b.bytes for b in held if b.part == "activations" and b.bytes < MAPPED_FROM)
    return round(HEAP_HOLES * activations)
