"""Deterministic algorithms, which give the same bits every time, on GPUs that also have others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cpt.errors import StageFailed


def allow_deterministic() -> None:
    """Make cuBLAS multiply in the same order every time; call this before the first product on a GPU.

    cuBLAS reads the variable once, so a later call may have no effect. It costs nothing: the workspace is
    the one that PyTorch gives cuBLAS on a Hopper in any case. The user's own setting wins.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Use only deterministic algorithms inside the block; a CPU has no others.

    Raises:
        StageFailed: An operation has no deterministic algorithm on this device.
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
    # with warn_only the backward pass of memory-efficient attention would stay nondeterministic
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
