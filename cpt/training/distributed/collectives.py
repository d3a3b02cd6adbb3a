"""The process group that trains one model: which process has which rows, and sums over all processes.

The stream is a pure function of the step, so every process knows the whole global batch and takes its own
rows of it: no batch is sent, and the order of the data does not depend on the number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from cpt.training.distributed.context import COLLECTIVE_TIMEOUT, DistributedContext
from cpt.training.distributed.launch import refuse_unsupported_launch, replicas_of_shards

if TYPE_CHECKING:
    from accelerate import FullyShardedDataParallelPlugin

T = TypeVar("T")
BUCKET = 32 * 1024 * 1024
"""Number of elements of a bucket of gradients: 128 MB of float32."""

_IN_PLACE = 2**18
"""Number of elements (1 MB) from which on a call of its own costs less than two copies."""


class ProcessGroup:
    """The processes of a run, connected to each other; accelerate chooses their devices and backend.

    Attributes:
        rank, count: Rank of this process, and number of processes.
        device: Device of this process.
        sharding: accelerate's settings of FSDP2 if weights and optimizer state are sharded over the
        processes;
            None if every process has all of them.
        replicas: Number of groups of processes that each shard all weights.
        background: The same processes for a thread that writes checkpoints, if weights are sharded.
    """

    def __init__(self, context: DistributedContext) -> None:
        """Connect to the other processes, which do the same at the same time.

        Raises:
            UsageError: The launch asks for something that this training does not support.
        """
        from accelerate import FullyShardedDataParallelPlugin, PartialState
        from accelerate.utils import parse_flag_from_env

        refuse_unsupported_launch()
        self.rank, self.count = context.rank, context.count
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        self.sharding: FullyShardedDataParallelPlugin | None = None
        self.replicas = 1
        self.background: BackgroundGroup | None = None
        if self.count == 1:
            self.device: torch.device = PartialState(cpu=on_cpu).device
            return
        _forget_other_states()
        with context.launch_environment():
            self.device = PartialState(
                cpu=on_cpu,
                backend="gloo" if on_cpu else None,
                store=context.new_store(),
                rank=context.rank,
                world_size=context.count,
                timeout=COLLECTIVE_TIMEOUT,
            ).device
        if parse_flag_from_env("ACCELERATE_USE_FSDP"):
            self.sharding = FullyShardedDataParallelPlugin()
            self.replicas = replicas_of_shards(self.count)
            self.background = BackgroundGroup(self.rank, self.count)

    @property
    def is_main(self) -> bool:
        """Return True for the process that writes files."""
        return self.rank == 0

    @property
    def has_own_shards(self) -> bool:
        """Return True if weights are sharded, and no process of lower rank has the same shards."""
        return self.sharding is not None and self.rank < self.count // self.replicas

    def share(self, rows: Sequence[T], rank: int | None = None) -> Sequence[T]:
        """Return the rows of a global batch that a process trains on: a contiguous slice.

        Slices differ by one row at most; with more processes than rows some are empty.

        Args:
            rows: Rows of the global batch.
            rank: Rank of the process; by default this one.
        """
        rank = self.rank if rank is None else rank
        return rows[rank * len(rows) // self.count : (rank + 1) * len(rows) // self.count]

    def micro_batches(self, rows: Sequence[T], size: int, rank: int | None = None) -> list[Sequence[T]]:
        """Return a process's rows in micro batches of at most `size` rows.

        All processes gather sharded weights together. They then have the same number of micro batches, and
        the last one may be empty.

        Args:
            rows: Rows of the global batch.
            size: Largest number of rows of a micro batch.
            rank: Rank of the process; by default this one.
        """
        mine = self.share(rows, rank)
        longest = -(-len(rows) // self.count) if self.sharding else len(mine)
        return [mine[start : start + size] for start in range(0, longest, size)]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Overwrite a tensor with the sum over all processes, and return it."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def sum_all(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite many tensors with their sums over all processes, in few calls."""
        for wait in [self.start_sum(bucket) for bucket in buckets(tensors)]:
            wait()

    def start_sum(self, tensors: Sequence[torch.Tensor]) -> Callable[[], None]:
        """Begin to overwrite tensors of one data type with their sums over all processes.

        Large tensors are summed where they are, small ones in one copy of all.

        Returns:
            Function that waits for the sums. Until then the tensors must not be used.
        """
        if self.count == 1:
            return lambda: None
        small = [tensor for tensor in tensors if is_small(tensor)]
        flat = torch.cat([tensor.flatten() for tensor in small]) if small else None
        summed = [tensor for tensor in tensors if not is_small(tensor)] + ([] if flat is None else [flat])
        works = [distributed.all_reduce(tensor, async_op=True) for tensor in summed]

        def wait() -> None:
            for work in works:
                work.wait()
            if flat is not None:
                for tensor, total in zip(small, flat.split([t.numel() for t in small]), strict=True):
                    tensor.copy_(total.view_as(tensor))

        return wait

    def send(self, tensor: torch.Tensor, owner: int) -> None:
        """Overwrite a contiguous tensor in every process with that of one of them, bit by bit."""
        if self.count > 1:
            distributed.broadcast(tensor.view(torch.uint8), src=owner)  # gloo cannot send every data type

    def any(self, flag: bool) -> bool:
        """Return True if the flag is set in any process, so that all processes act alike."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def wait(self) -> None:
        """Wait until every process reaches this call."""
        if self.count > 1:
            self.sum(torch.zeros((), device=self.device)).item()

    def data_from_main(self, data: T) -> T:
        """Return the main process's JSON data in every process."""
        if self.count == 1:
            return data
        text = json.dumps(data).encode() if self.is_main else b""
        size = int(self.sum(torch.tensor(len(text), device=self.device)))
        sent = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if self.is_main:
            sent.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        distributed.broadcast(sent, src=0)
        received: T = json.loads(bytes(sent.cpu().numpy()))
        return received

    def gather(self, data: T) -> list[T]:
        """Return the JSON data of every process, in the order of their ranks."""
        return _gather(data, self.rank, self.count, self.device)

    def close(self) -> None:
        """Disconnect: this process is alone again."""
        if self.count > 1:
            distributed.destroy_process_group()
            _forget_other_states()


class BackgroundGroup:
    """The same processes, connected once more: a thread can use them while training uses the others.

    Attributes:
        rank, count: Rank of this process, and number of processes.
    """

    def __init__(self, rank: int, count: int) -> None:
        """Connect to the other processes, which do the same at the same time."""
        self.rank, self.count = rank, count
        self._group = distributed.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)

    def gather(self, data: T) -> list[T]:
        """Return the JSON data of every process, in the order of their ranks."""
        return _gather(data, self.rank, self.count, torch.device("cpu"), self._group)


def _gather(data: T, rank: int, count: int, device: torch.device, group: Any = None) -> list[T]:
    if count == 1:
        return [data]
    text = json.dumps(data).encode()
    sizes = torch.zeros(count, dtype=torch.long, device=device)
    sizes[rank] = len(text)
    distributed.all_reduce(sizes, group=group)
    longest = int(sizes.max())
    sent = torch.zeros(longest, dtype=torch.uint8, device=device)
    sent[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    received = [torch.empty_like(sent) for _ in range(count)]
    distributed.all_gather(received, sent, group=group)
    return [
        json.loads(bytes(each[:size].cpu().numpy()))
        for each, size in zip(received, sizes.tolist(), strict=True)
    ]


def is_small(tensor: torch.Tensor) -> bool:
    """Return True for a tensor that is copied to be summed with others, and not where it is."""
    return tensor.numel() < _IN_PLACE or not tensor.is_contiguous()


def buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield tensors in order, in lists of at most `BUCKET` elements (or of one larger tensor)."""
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
    """Reset accelerate's state: a stage that ran alone in this process may have left one."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
