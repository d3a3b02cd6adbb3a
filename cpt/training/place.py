"""Where a run is: what its hardware can do, and how many processes share the work and the weights.

Whatever depends on this asks a `Place`, so that a recipe can also be judged for a machine that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """A processor or a GPU.

    Attributes:
        bfloat16: whether it multiplies bfloat16 matrices itself.
        capability: CUDA's compute capability; of GPUs only.
        is_here: this machine's, on which what is installed matters, too.
    """

    name: str
    is_gpu: bool
    bfloat16: bool
    capability: tuple[int, int] = (0, 0)
    is_here: bool = False


PROCESSOR = Hardware("a processor", is_gpu=False, bfloat16=True)
"""Some processor with bfloat16."""


def this_hardware() -> Hardware:
    """The first GPU of this machine, or else its processor."""
    import torch

    from cpt.models.packed_model import has_fast_bfloat16

    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        return Hardware(torch.cuda.get_device_name(), True, has_fast_bfloat16(), capability, is_here=True)
    return Hardware("this machine's CPU", False, has_fast_bfloat16(), is_here=True)


@dataclass(frozen=True)
class Place:
    """Where a run is.

    Attributes:
        elsewhere: hardware of another machine; None for this one.
        processes: how many share the work.
        divided: whether each has a part of the weights (FSDP2), and not all of them.
    """

    elsewhere: Hardware | None = None
    processes: int = 1
    divided: bool = False

    @property
    def hardware(self) -> Hardware:
        """What each process computes on."""
        return self.elsewhere or this_hardware()
