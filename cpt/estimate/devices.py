"""Devices to estimate for: GPUs by name, or this machine; and the memory of this process."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import UsageError, nearest_hint
from cpt.training.distributed.environment import Hardware, this_hardware

if TYPE_CHECKING:
    import torch

    from cpt.estimate.allocations import Block


_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")

MAPPED_FROM = 32 << 20
"""glibc's malloc takes blocks of 32 MiB and more (DEFAULT_MMAP_THRESHOLD_MAX, 64-bit) from the system
and returns them directly; smaller ones come from its heap."""

HEAP_HOLES = 0.7
"""Bytes of freed memory that the heap cannot use again, per byte of activations in it: long-lived gradients
and optimizer state settle where activations were, and aligned requests do not fit holes of their own size.
Measured with glibc 2.36 on runs of a 135M model: 0.5 to 1.0, and by 0.2 different when the same run is
started again."""


def resident_bytes() -> int:
    """Return the resident memory of this process (its peak, if the system does not report it)."""
    if _STATUS.exists():
        return _status("VmRSS")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_resident_bytes() -> int:
    """Return the peak of this process's resident memory."""
    if _STATUS.exists():
        return _status("VmHWM")
    return resident_bytes()


def container_limit(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the memory limit of this process by its control groups (Linux, versions 1 and 2)."""
    limits = []
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(mounted, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(mounted / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(mounted: Path, path: str, file: str) -> list[int]:
    """Return the limits of a group and of its parents; inside a container the mounted one is its own."""
    group = mounted / path.lstrip("/")
    files = [folder / file for folder in (group, *group.parents) if folder.is_relative_to(mounted)]
    texts = [each.read_text().strip() for each in files if each.is_file()]
    return [int(text) for text in texts if text.isdecimal()]


def available_bytes() -> int | None:
    """Return the memory that this process can get without swapping; None if the system does not report it."""
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
    """Return the freed memory that the process still has while it holds these blocks."""
    if platform.libc_ver()[0] != "glibc":
        return 0
    activations = sum(b.bytes for b in held if b.part == "activations" and b.bytes < MAPPED_FROM)
    return round(HEAP_HOLES * activations)


TYPICAL_UTILISATION = 0.40
"""Share of a GPU's peak that training reaches (MFU): llm-foundry 40% (1B), torchtitan 39% (8B), on H100."""


@dataclass(frozen=True)
class Device:
    """A device, or several of one kind.

    Attributes:
        hardware: Capabilities.
        memory_bytes: Memory of one device.
        flops: Peak operations per second of dense bfloat16 matrix products with float32 sums, of one device;
            0 if unknown.
        float32_flops: The same for float32 products, without rounding to TensorFloat-32.
        context_bytes: GPU memory of CUDA and its libraries before any allocation.
        source: Source of the peaks.
    """

    hardware: Hardware
    memory_bytes: int
    flops: float = 0.0
    float32_flops: float = 0.0
    context_bytes: int = 600_000_000
    source: str = ""

    @property
    def name(self) -> str:
        """Return the name of the hardware."""
        return self.hardware.name

    @property
    def is_gpu(self) -> bool:
        """Return True for a GPU."""
        return self.hardware.is_gpu

    def peak(self, dtype: torch.dtype) -> float:
        """Return the peak operations per second of this type; without native bfloat16 those of float32."""
        is_half = dtype.itemsize == 2
        return self.flops if is_half and self.hardware.bfloat16 else self.float32_flops

    def as_json(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"name": self.name, "is_gpu": self.is_gpu, **asdict(self)}


def _gpu(
    name: str, memory_gb: int, capability: tuple[int, int], teraflops: float, float32: float, source: str
) -> Device:
    hardware = Hardware(name, is_gpu=True, bfloat16=capability >= (8, 0), capability=capability)
    return Device(hardware, memory_gb * 10**9, teraflops * 1e12, float32 * 1e12, source=source)


GPUS = {
    device.name: device
    for device in (
        _gpu("b200", 180, (10, 0), 2250, 75, "NVIDIA DGX B200 datasheet, per GPU"),
        _gpu("h200", 141, (9, 0), 989, 67, "NVIDIA H200 datasheet, SXM"),
        _gpu("h100", 80, (9, 0), 989, 67, "NVIDIA H100 datasheet, SXM"),
        _gpu("h100-pcie", 80, (9, 0), 756, 51, "NVIDIA H100 datasheet, PCIe"),
        _gpu("a100", 80, (8, 0), 312, 19.5, "NVIDIA A100 datasheet, 80 GB"),
        _gpu("a100-40gb", 40, (8, 0), 312, 19.5, "NVIDIA A100 datasheet, 40 GB"),
        _gpu("l40s", 48, (8, 9), 362, 91.6, "NVIDIA L40S datasheet"),
        _gpu("l4", 24, (8, 9), 121, 30.3, "NVIDIA L4 datasheet"),
        _gpu("a10", 24, (8, 6), 125, 31.2, "NVIDIA A10 datasheet"),
        _gpu(
            "rtx-4090", 24, (8, 9), 165, 82.6, "NVIDIA Ada GPU architecture white paper, float32 accumulate"
        ),
        _gpu("rtx-3090", 24, (8, 6), 71, 35.6, "NVIDIA Ampere GA102 white paper, float32 accumulate"),
        _gpu("v100", 16, (7, 0), 0, 15.7, "NVIDIA V100 datasheet, SXM2; it has no bfloat16"),
        _gpu("v100-32gb", 32, (7, 0), 0, 15.7, "NVIDIA V100 datasheet, SXM2; it has no bfloat16"),
        _gpu("t4", 16, (7, 5), 0, 8.1, "NVIDIA T4 datasheet; it has no bfloat16"),
        _gpu("mi300x", 192, (9, 4), 1307, 163.4, "AMD Instinct MI300X data sheet"),
    )
}
"""GPUs by name; peaks are without sparsity."""

_IGNORED_WORDS = re.compile(r"nvidia|amd|geforce|tesla|instinct|rtx|gpu|sxm\d?|pcie|hbm\d\w?|oam|")
"""Words of a full name that do not distinguish GPUs, unless an entry contains them."""


def gpu(name: str) -> Device:
    """Return the GPU of a name, which may be the vendor's full name.

    Raises:
        UsageError: The GPU is not in the table.
    """
    found = known_gpu(name)
    if found is None:
        near, known = nearest_hint(name, GPUS), ", ".join(f"`{each}`" for each in GPUS)
        hint = f"{near + ' ' if near else ''}Known are {known}."
        raise UsageError(f"--gpu: no GPU `{name}` is known", hint=hint)
    return found


def known_gpu(name: str) -> Device | None:
    """Return the entry with the most words that are all in a name, if the rest of the name is ignored."""
    words = _words(name)
    fitting = [each for each in GPUS.values() if _own_words(each.name) <= words]
    for device in sorted(fitting, key=lambda each: len(_words(each.name)), reverse=True):
        more = words - _words(device.name) - {f"{device.memory_bytes // 10**9}gb"}
        if all(_IGNORED_WORDS.fullmatch(word) for word in more):
            return device
    return None


def _words(name: str) -> set[str]:
    """Return the words of `NVIDIA A100-SXM4-40GB` or `RTX4090` in lower case; a series name is split off."""
    return set(re.split(r"[\s_-]+|(?<=rtx)(?=\d)", name.strip().lower()))


def _own_words(name: str) -> set[str]:
    """Return the words that a name must contain: the vendor's series may be missing."""
    return _words(name) - {"rtx"}


def this_machine() -> Device:
    """Return the first GPU of this machine, or its CPU with the memory that this process may use."""
    import torch

    hardware = this_hardware()
    if hardware.is_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        known = known_gpu(hardware.name)
        if known is None:
            return Device(hardware, total)
        return Device(hardware, total, known.flops, known.float32_flops, source=known.source)
    return Device(hardware, main_memory(), context_bytes=0)


def main_memory() -> int:
    """Return the bytes of this machine's memory that this process may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, container_limit() or physical)
