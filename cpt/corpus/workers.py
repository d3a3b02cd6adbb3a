"""Work on chunks of text in several processes, with the results in the order of the chunks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, Generic, Literal, Self, TypeVar

from cpt.errors import StageFailed

Item = TypeVar("Item")
Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

_INLINE = 8
"""Number of chunks that are done in the main process before others are started, which takes half a second."""

_IN_FLIGHT = 3
"""Number of chunks for each process that are read ahead, so that none waits while memory stays bounded."""


def process_count(workers: int | Literal["auto"]) -> int:
    """Return a number of processes; auto is the number of processors that this process may use."""
    if workers != "auto":
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_CHUNK_ITEMS = 512
_CHUNK_SIZE = 1 << 20


def chunked(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Group items so that a chunk has about a million characters at most, or one longer item.

    Args:
        size: Function that returns the number of characters of an item.
    """
    chunk: list[Item] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size(item)
        if len(chunk) == _CHUNK_ITEMS or total >= _CHUNK_SIZE:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


class Workers(Generic[Chunk, Result]):
    """Processes that do the same work on chunks; results come in the order of the chunks.

    The first chunks are done in the main process, so that little work starts no other.
    """

    def __init__(
        self, prepare: Callable[..., Callable[[Chunk], Result]], arguments: tuple[Any, ...], count: int
    ) -> None:
        """Describe the work.

        Args:
            prepare: Function of a module, which each process imports; returns the work on one chunk. It is
                called once in each process.
            arguments: Its arguments, sent to the processes.
            count: Number of processes; with 1 all work is done in the main one.
        """
        self._prepare, self._arguments, self._count = prepare, arguments, count
        self._inline = _INLINE
        self._pool: ProcessPoolExecutor | None = None

    @cached_property
    def _own(self) -> Callable[[Chunk], Result]:
        return self._prepare(*self._arguments)

    def map(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        """Yield the result of each chunk, in order; chunks are read ahead by a few for each process.

        Raises:
            StageFailed: A process died, as when memory runs out. Errors of the work are raised as they are.
        """
        remaining = iter(chunks)
        while self._count == 1 or self._inline:
            for chunk in islice(remaining, 1):
                self._inline -= 1
                yield self._own(chunk)
                break
            else:
                return
        ahead = islice(remaining, _IN_FLIGHT * self._count)
        try:
            pending = deque(self._submit(chunk) for chunk in ahead)
            while pending:
                result = pending.popleft().result()
                pending.extend(self._submit(chunk) for chunk in islice(remaining, 1))
                yield result
        except BrokenProcessPool as error:
            raise StageFailed(
                f"one of {self._count} processes died, perhaps because memory ran out",
                hint="Use fewer processes (workers), or give the machine more memory.",
            ) from error

    def _submit(self, chunk: Chunk) -> Future[Result]:
        if self._pool is None:
            # Not forked: a fork would copy the locks of PyTorch's and the tokenizer's threads.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, _begin, (self._prepare, self._arguments))
        return self._pool.submit(_work, chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any]
"""The work on one chunk, in a process of the pool."""


def _begin(prepare: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process has one processor
    _function = prepare(*arguments)


def _end_with_parent() -> None:
    """End this process when the main one is gone, which a killed one cannot tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(chunk: Any) -> Any:
    return _function(chunk)
