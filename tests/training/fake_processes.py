"""Processes of a group that sends nothing, one at a time: what each of them holds of a sharded tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def process(rank: int, count: int) -> Iterator[Any]:
    """The mesh of one of some processes."""
    distributed.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (count,))
    finally:
        distributed.destroy_process_group()
