"""Where a run would be: GPUs by name, or this machine."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cpt.errors import UsageError, nearest_hint
from cpt.estimate.process import container_limit
from cpt.training.place import Hardware, this_hardware

if TYPE_CHECKING:
    import torch

TYPICAL_UTILISATION = 0.40
"""Share of a GPU's peak that training reaches (MFU): llm-foundry 40% (1B), torchtitan 39% (8B), on H100."""


@dataclass(frozen=True)
class Device:
    """A device, or several of one kind.

    Attributes:
        hardware: what it can do.
        memory_bytes: of one.
        flops: peak bfloat16 matrix products per second of one, dense, with float32 sums; 0: not known.
        float32_flops: the same of float32 ones, without rounding to TensorFloat-32.
        context_bytes: GPU memory that CUDA and its libraries take before anything is allocated.
        source: where the peaks come from.
    """

    hardware: Hardware
    memory_bytes: int
    flops: float = 0.0
    float32_flops: float = 0.0
    context_bytes: int = 600_000_000
    source: str = ""

    @property
    def name(self) -> str:
        """The hardware's."""
        return self.hardware.name

    @property
    def is_gpu(self) -> bool:
        """Whether it has memory of its own."""
        return self.hardware.is_gpu

    def peak(self, dtype: torch.dtype) -> float:
        """Peak products per second of this type; without bfloat16 in hardware those of float32."""
        is_half = dtype.itemsize == 2
        return self.flops if is_half and self.hardware.bfloat16 else self.float32_flops

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
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
"""GPUs by name; their peaks are without sparsity."""

_SAYS_NOTHING = re.compile(r"nvidia|amd|geforce|tesla|instinct|rtx|gpu|sxm\d?|pcie|hbm\d\w?|oam|")
"""Words of a full name that tell nothing, where there is no entry with them."""


def gpu(name: str) -> Device:
    """The GPU of a name, which may be as its maker writes it.

    Raises:
        UsageError: it is not in the table.
    """
    found = known_gpu(name)
    if found is None:
        near, known = nearest_hint(name, GPUS), ", ".join(f"`{each}`" for each in GPUS)
        hint = f"{near + ' ' if near else ''}Known are {known}."
        raise UsageError(f"--gpu: no GPU `{name}` is known", hint=hint)
    return found


def known_gpu(name: str) -> Device | None:
    """The entry whose words are all in a name: the one of most words, if nothing else in it says more."""
    words = _words(name)
    fitting = [each for each in GPUS.values() if _own_words(each.name) <= words]
    for device in sorted(fitting, key=lambda each: len(_words(each.name)), reverse=True):
        more = words - _words(device.name) - {f"{device.memory_bytes // 10**9}gb"}
        if all(_SAYS_NOTHING.fullmatch(word) for word in more):
            return device
    return None


def _words(name: str) -> set[str]:
    """`NVIDIA A100-SXM4-40GB`, `RTX4090`: small letters, split also behind a maker's series."""
    return set(re.split(r"[\s_-]+|(?<=rtx)(?=\d)", name.strip().lower()))


def _own_words(name: str) -> set[str]:
    """Words without which a name is another GPU's: a maker's series may be left out."""
    return _words(name) - {"rtx"}


def this_machine() -> Device:
    """The first GPU of this machine, or else its processor and the main memory that it may use."""
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
    """Bytes of this machine's memory that this process may have."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, container_limit() or physical)
