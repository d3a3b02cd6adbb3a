"""Work on chunks of text in several processes, with the results in the order of the chunks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, Self, TypeVar

from cpt.errors import CptError, StageFailed

Item = TypeVar("Item")
Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

_INLINE = 8
_INLINE_SECONDS = 1.0
"""Chunks, and seconds of work, that are done before other processes start, which takes half a second."""

_IN_FLIGHT = 3
"""Number of chunks for each process that are read ahead, so that none waits while memory stays bounded."""

_MOST_IN_FLIGHT = 1 << 26
"""Characters of chunks that are read ahead, beyond which one more chunk is read at most."""


def process_count(workers: int | Literal["auto"]) -> int:
    """Return a number of processes; auto is the number of processors that this process may use."""
    if workers != "auto":
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SizedList(list[Item]):
    """A chunk that knows its number of characters."""

    size = 0


_CHUNK_ITEMS = 512
_CHUNK_SIZE = 1 << 20


def chunked(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[SizedList[Item]]:
    """Group items so that a chunk has about a million characters at most, or one longer item.

    Args:
        size: Function that returns the number of characters of an item.
    """
    chunk: SizedList[Item] = SizedList()
    for item in items:
        chunk.append(item)
        chunk.size += size(item)
        if len(chunk) == _CHUNK_ITEMS or chunk.size >= _CHUNK_SIZE:
            yield chunk
            chunk = SizedList()
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
        self._inline, self._seconds = _INLINE, _INLINE_SECONDS
        self._pool: ProcessPoolExecutor | None = None
        self._processes: dict[int, BaseProcess] = {}

    @cached_property
    def _own(self) -> Callable[[Chunk], Result]:
        return self._prepare(*self._arguments)

    def map(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        """Yield the result of each chunk, in order; chunks are read ahead by a few for each process.

        Those that `chunked` makes are read ahead by a bounded number of characters, too.

        Raises:
            StageFailed: A process died, as when memory runs out. Errors of the work are raised as they are.
        """
        remaining = iter(chunks)
        while self._count == 1 or (self._inline and self._seconds > 0):
            for chunk in islice(remaining, 1):
                work, began = self._own, time.perf_counter()
                result = work(chunk)
                self._inline, self._seconds = self._inline - 1, self._seconds - (time.perf_counter() - began)
                yield result
                break
            else:
                return
        pending: deque[tuple[Future[Result], int]] = deque()
        try:
            self._read_ahead(remaining, pending)
            while pending:
                result = pending.popleft()[0].result()
                self._read_ahead(remaining, pending)
                yield result
        except BrokenProcessPool as error:
            raise StageFailed(
                f"one of {self._count} processes died, perhaps because memory ran out",
                hint="Use fewer processes (workers), or give the machine more memory.",
            ) from error

    def _read_ahead(self, chunks: Iterator[Chunk], pending: deque[tuple[Future[Result], int]]) -> None:
        total = sum(size for _, size in pending)
        while len(pending) < _IN_FLIGHT * self._count and total < _MOST_IN_FLIGHT:
            for chunk in islice(chunks, 1):
                size = chunk.size if isinstance(chunk, SizedList) else 0
                pending.append((self._submit(chunk), size))
                total += size
                break
            else:
                return

    def _submit(self, chunk: Chunk) -> Future[Result]:
        if self._pool is None:
            # Not forked: a fork would copy the locks of PyTorch's and the tokenizer's threads.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, _begin, (self._prepare, self._arguments))
        with _hidden_main():  # processes start when there is work for them
            future = self._pool.submit(_work, chunk)
        self._processes.update(self._pool._processes)
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:  # nobody wants the chunks that are being worked on
            for process in self._processes.values():
                process.kill()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Hide the main module: a process that starts would execute a script again that does not guard itself."""
    facts: dict[str, Any] = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: facts.pop(name) for name in ("__spec__", "__file__") if name in facts}
    facts["__spec__"] = None
    try:
        yield
    finally:
        facts.update(kept)


_function: Callable[[Any], Any]
"""The work on one chunk, in a process of the pool."""


def _begin(prepare: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _function
    for each in (signal.SIGINT, signal.SIGTERM):  # they reach all processes; the main one ends the others
        signal.signal(each, signal.SIG_IGN)
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
    try:
        return _function(chunk)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise _portable(error) from error
        raise


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent to the main process, with the message and hint of one that cannot."""
    if not isinstance(error, CptError):
        return RuntimeError(repr(error))
    init = CptError.__init__
    kind: type[CptError] = next(
        each for each in type(error).__mro__ if getattr(each, "__init__", None) is init
    )
    sent = kind(error.message, hint=error.hint)
    sent.exit_code = error.exit_code
    return sent
