"""Where a run would be: GPUs by name, or this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cpt.errors import UsageError
from cpt.recipe.suggest import did_you_mean

TYPICAL_UTILISATION = 0.40
"""Share of a GPU's peak that training reaches (MFU): llm-foundry 40% (1B), torchtitan 39% (8B), on H100."""


@dataclass(frozen=True)
class Device:
    """A device, or several of one kind.

    Attributes:
        memory_bytes: of one.
        flops: peak bfloat16 matrix products per second of one, dense, with float32 sums; 0: not known.
        context_bytes: GPU memory that CUDA and its libraries take before anything is allocated.
        source: where the peak comes from.
    """

    name: str
    memory_bytes: int
    flops: float = 0.0
    is_gpu: bool = True
    context_bytes: int = 600_000_000
    source: str = ""


def _gpu(name: str, memory_gb: int, teraflops: float, source: str) -> Device:
    return Device(name, memory_gb * 1_000_000_000, teraflops * 1e12, source=source)


GPUS = {
    device.name: device
    for device in (
        _gpu("b200", 180, 2250, "NVIDIA DGX B200 datasheet, per GPU"),
        _gpu("h200", 141, 989, "NVIDIA H200 datasheet, SXM"),
        _gpu("h100", 80, 989, "NVIDIA H100 datasheet, SXM"),
        _gpu("h100-pcie", 80, 756, "NVIDIA H100 datasheet, PCIe"),
        _gpu("a100", 80, 312, "NVIDIA A100 datasheet, 80 GB"),
        _gpu("a100-40gb", 40, 312, "NVIDIA A100 datasheet, 40 GB"),
        _gpu("l40s", 48, 362, "NVIDIA L40S datasheet"),
        _gpu("l4", 24, 121, "NVIDIA L4 datasheet"),
        _gpu("a10", 24, 125, "NVIDIA A10 datasheet"),
        _gpu("rtx-4090", 24, 165, "NVIDIA Ada GPU architecture white paper, float32 accumulate"),
        _gpu("rtx-3090", 24, 71, "NVIDIA Ampere GA102 white paper, float32 accumulate"),
        _gpu("mi300x", 192, 1307, "AMD Instinct MI300X data sheet"),
    )
}
"""GPUs by name; their peaks are without sparsity."""


def gpu(name: str) -> Device:
    """The GPU of a name.

    Raises:
        UsageError: it is not in the table.
    """
    key = name.strip().lower().replace(" ", "-").replace("_", "-").removeprefix("nvidia-")
    if key not in GPUS:
        raise UsageError(f"--gpu: no GPU `{name}` is known", hint=did_you_mean(key, GPUS))
    return GPUS[key]


def this_machine() -> Device:
    """The first GPU of this machine, or else its processor and main memory."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        known = next((each for each in GPUS.values() if each.name in properties.name.lower().split()), None)
        return Device(properties.name, properties.total_memory, known.flops if known else 0.0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device("this machine's CPU", memory, is_gpu=False, context_bytes=0)
