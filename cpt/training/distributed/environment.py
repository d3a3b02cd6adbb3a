"""The hardware and the processes of a run.

Checks and estimates read an `Environment`, so that a recipe can also be judged for another machine.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def grow_segments() -> None:
    """Make PyTorch grow the segments of GPU memory that it takes from here on.

    It takes segments of fixed sizes by default, and rows that differ in length leave holes in them. The
    user's own settings of the allocator win. Windows has no segments that grow. A variable of the environment
    would do the same, but vLLM's processes would inherit it, whose sums cannot share such memory.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in _ALLOCATOR):
        from torch import _C

        _C._accelerator_setAllocatorSettings("expandable_segments:True")


@dataclass(frozen=True)
class Hardware:
    """A CPU or a GPU.

    Attributes:
        name: Name for messages.
        is_gpu: True for a GPU.
        bfloat16: True if it multiplies bfloat16 matrices natively.
        capability: CUDA compute capability; of GPUs only.
        is_here: True for this machine's hardware: checks then also look at installed packages.
    """

    name: str
    is_gpu: bool
    bfloat16: bool
    capability: tuple[int, int] = (0, 0)
    is_here: bool = False


ANY_CPU = Hardware("a processor", is_gpu=False, bfloat16=True)
"""A CPU with bfloat16."""


def this_hardware() -> Hardware:
    """Return the first GPU of this machine, or its CPU if there is none."""
    import torch

    from cpt.models.packed_model import has_fast_bfloat16

    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        return Hardware(torch.cuda.get_device_name(), True, has_fast_bfloat16(), capability, is_here=True)
    return Hardware("this machine's CPU", False, has_fast_bfloat16(), is_here=True)


@dataclass(frozen=True)
class Environment:
    """The hardware and the processes of a run.

    Attributes:
        assumed_hardware: Hardware of another machine; None for this machine.
        processes: Number of processes that share the work.
        sharded: True if each process has a part of the weights (FSDP2) instead of all of them.
        replicas: Number of groups of processes that each shard all weights; more than one is HSDP.
    """

    assumed_hardware: Hardware | None = None
    processes: int = 1
    sharded: bool = False
    replicas: int = 1

    @property
    def hardware(self) -> Hardware:
        """Return the hardware of each process."""
        return self.assumed_hardware or this_hardware()
