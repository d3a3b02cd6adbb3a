"""Making the next thing while the last one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """`make` of every item, in order, the next one in a thread while the caller is busy with the last.

    What `make` raises is raised where its result would have come.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as worker:
        waiting: Future[Made] | None = None
        for item in items:
            following = worker.submit(make, item)
            if waiting:
                yield waiting.result()
            waiting = following
        if waiting:
            yield waiting.result()
