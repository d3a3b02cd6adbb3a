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
from itertools import chain, islice
from multiprocessing.connection import wait
from typing import Any, Literal, TypeVar

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


def ordered_map(
    prepare: Callable[..., Callable[[Chunk], Result]],
    arguments: tuple[Any, ...],
    chunks: Iterable[Chunk],
    workers: int,
) -> Iterator[Result]:
    """Yield the result of each chunk, in order, whatever the number of processes.

    Args:
        prepare: Function of a module, which each process imports; returns the work on one chunk. It is called
            once in each process.
        arguments: Its arguments, sent to the processes.
        chunks: Chunks of work; read ahead of the results by a few for each process.
        workers: Number of processes; with 1 the work is done in this one.

    Raises:
        StageFailed: A process died, as when memory runs out. Errors of the work are raised as they are.
    """
    remaining = iter(chunks)
    function = prepare(*arguments)
    yield from map(function, remaining if workers == 1 else islice(remaining, _INLINE))
    first = next(remaining, None)
    if first is None:
        return
    # Not forked: a fork would copy the locks of PyTorch's and the tokenizer's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (prepare, arguments)) as pool:
        ahead = chain([first], islice(remaining, _IN_FLIGHT * workers))
        try:
            pending: deque[Future[Result]] = deque(pool.submit(_work, chunk) for chunk in ahead)
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(_work, chunk) for chunk in islice(remaining, 1))
                yield result
        except BrokenProcessPool as error:
            raise StageFailed(
                f"one of {workers} processes died, perhaps because memory ran out",
                hint="Use fewer processes (workers), or give the machine more memory.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
