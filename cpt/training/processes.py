"""The processes that train one model together: who has which rows, and sums over all of them.

The stream is a pure function of the step, so every process knows the whole global batch and takes its own
rows of it: nothing is sent around, and the order of the data does not depend on how many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

from cpt.errors import StageFailed
from cpt.training.launch import refuse_unsupported_launch
from cpt.training.world import PATIENCE, World

if TYPE_CHECKING:
    from accelerate import FullyShardedDataParallelPlugin

T = TypeVar("T")
BUCKET = 32 * 1024 * 1024
"""Elements that are summed in one call: 128 MB of float32."""


class Processes:
    """The processes of a world, connected to each other; accelerate chooses their devices and backend.

    Attributes:
        rank, count: this process's number, and how many there are.
        device: where this process computes.
        sharding: accelerate's settings of FSDP2 when weights and optimizer state are divided among the
            processes; None when each has all of them.
    """

    def __init__(self, world: World) -> None:
        """Connect; every process of the world does so at the same time.

        Raises:
            UsageError: the launch asks for something that this training does not do.
        """
        from accelerate import FullyShardedDataParallelPlugin, PartialState
        from accelerate.utils import parse_flag_from_env

        refuse_unsupported_launch()
        self.rank, self.count = world.rank, world.count
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        self.sharding: FullyShardedDataParallelPlugin | None = None
        if self.count == 1:
            self.device: torch.device = PartialState(cpu=on_cpu).device
            return
        _forget_other_states()
        with world.environment():
            self.device = PartialState(
                cpu=on_cpu,
                backend="gloo" if on_cpu else None,
                store=world.fresh_store(),
                rank=world.rank,
                world_size=world.count,
                timeout=PATIENCE,
            ).device
        if parse_flag_from_env("ACCELERATE_USE_FSDP"):
            self.sharding = FullyShardedDataParallelPlugin()

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, rows: Sequence[T], rank: int | None = None) -> Sequence[T]:
        """A process's rows of a global batch, its own by default: a contiguous slice.

        Slices differ by one row at most; with more processes than rows some are empty.
        """
        rank = self.rank if rank is None else rank
        return rows[rank * len(rows) // self.count : (rank + 1) * len(rows) // self.count]

    def micro_batches(self, rows: Sequence[T], size: int) -> list[Sequence[T]]:
        """This process's share in pieces of at most `size` rows.

        Sharded weights are gathered by all processes together, so there all have equally many pieces, the
        last of which may be empty.
        """
        mine = self.share(rows)
        longest = len(mine)
        if self.sharding:
            longest = max(len(self.share(rows, rank)) for rank in range(self.count))
        return [mine[start : start + size] for start in range(0, longest, size)]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of all processes' tensors; the tensor itself is overwritten."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def sum_all(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace many tensors by their sums over all processes, in few calls."""
        if self.count == 1:
            return
        for bucket in buckets(tensors):
            flat = self.sum(torch.cat([tensor.flatten() for tensor in bucket]))
            for tensor, total in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process: what all act upon must be known to all."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            self.sum(torch.zeros((), device=self.device)).item()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before all others do."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def check_same(self, number: int, what: str) -> None:
        """Raise unless every process has the same number."""
        if self.count == 1:
            return
        numbers = torch.zeros(self.count, dtype=torch.long, device=self.device)
        numbers[self.rank] = number
        found = self.sum(numbers).tolist()
        if len(set(found)) > 1:
            raise StageFailed(
                f"the processes disagree on {what}: {', '.join(map(str, found))}",
                hint="All of them must see the same files: use a folder that every machine shares.",
            )

    def data_from_main(self, data: T) -> T:
        """The main process's data, which must be JSON, in every process."""
        if self.count == 1:
            return data
        text = json.dumps(data).encode() if self.is_main else b""
        size = int(self.sum(torch.tensor(len(text), device=self.device)))
        sent = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if self.is_main:
            sent.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        distributed.broadcast(sent, src=0)
        told: T = json.loads(bytes(sent.cpu().numpy()))
        return told

    def close(self) -> None:
        """End the connection: this process is alone again."""
        if self.count > 1:
            distributed.destroy_process_group()
            _forget_other_states()


def buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Tensors in order, in lists of at most `BUCKET` elements (or of one tensor that is larger)."""
    bucket: list[torch.Tensor] = []
    elements = 0
    for tensor in tensors:
        if bucket and elements + tensor.numel() > BUCKET:
            yield bucket
            bucket, elements = [], 0
        bucket.append(tensor)
        elements += tensor.numel()
    if bucket:
        yield bucket


def _forget_other_states() -> None:
    """accelerate keeps one state per process: what a stage that ran alone has left there is not ours."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
