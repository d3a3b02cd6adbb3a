"""Algorithms that give the same bits every time, where a GPU has others that do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cpt.errors import StageFailed


def allow_deterministic() -> None:
    """Have cuBLAS multiply in the same order every time; call it before the first product on a GPU.

    It is read once, so a stage that asks for it later may come too late. It costs nothing: the memory is what
    PyTorch gives cuBLAS on a Hopper in any case. The user's own setting wins.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Use such algorithms alone inside the block; a CPU has no others.

    Raises:
        StageFailed: an operation has none on this device.
    """
    if not wanted:
        yield
        return
    import torch

    allow_deterministic()
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    # only to warn would also leave the backward pass of memory-efficient attention as it is
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise StageFailed(
            f"this GPU cannot repeat a result to the bit: {str(error).splitlines()[0]}",
            hint="Set deterministic: false.",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
