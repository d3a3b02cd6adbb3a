"""Divide work on a stream of texts into tasks, and keep their results: a kill loses one task.

Tasks are done by processes of this machine, while the stream is still being read, or by a cluster. Results
are the same, in the order of the stream.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar
from zipfile import BadZipFile

from cpt.atomic import atomic_file, write_text
from cpt.corpus.clusters import Local, Ray, Slurm, run_on_cluster
from cpt.corpus.workers import SizedList, Workers, chunked
from cpt.errors import CptError, DataError, StageFailed
from cpt.progress import NullProgress, Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

TASK_CHARACTERS = 1 << 24
"""Characters of a task: 16 million, some seconds of work. What is less at a stream's end is not kept."""

_ITEM_CHARACTERS = 256
"""Characters that an entry counts for besides its text, or entries without any would fill the memory."""


@dataclass(frozen=True)
class Work(Generic[Item, Result]):
    """A kind of work on chunks of items.

    Attributes:
        prepare: Function of a module that returns the work on one chunk; called once in each process.
        arguments: Its arguments, sent to the processes.
        size: Function that returns the number of characters of an item.
        content: Function that returns everything of an item that results depend on.
        write_items: Function that writes the items of a task to a file, for another machine.
        read_items: Function that reads them.
        write_results: Function that writes the results of a task to a file, with a key.
        read_results: Function that returns key and results of a file.
    """

    prepare: Callable[..., Callable[[list[Item]], Result]]
    arguments: tuple[Any, ...]
    size: Callable[[Item], int]
    content: Callable[[Item], str]
    write_items: Callable[[Path, list[Item]], None]
    read_items: Callable[[Path], list[Item]]
    write_results: Callable[[Path, str, list[Result]], None]
    read_results: Callable[[Path], tuple[str, list[Result]]]


@dataclass(frozen=True)
class Tasks:
    """The place where tasks are done, and where their results are kept.

    Attributes:
        workers: Number of processes on this machine.
        folder: Folder of the results; None: nothing is kept.
        place: This machine or a cluster, which needs a folder that all its machines see.
        progress: Receiver of the number of tasks that a cluster has done.
    """

    workers: int = 1
    folder: Path | None = None
    place: Local | Slurm | Ray = field(default_factory=Local)
    progress: Progress = field(default_factory=NullProgress)

    def kept_in(self, name: str) -> Tasks:
        """Return the same place with results in a folder of that name in this one's."""
        return replace(self, folder=None if self.folder is None else self.folder / name)

    def not_kept(self) -> Tasks:
        """Return the processes of this machine, which keep nothing."""
        return Tasks(self.workers)

    def map(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results of chunks of the items, in order.

        Kept results are used as long as the items are those that they were made of.

        Raises:
            StageFailed: A process or a task of the cluster died. Errors of the work are raised as they are.
        """
        chunks = chunked(items, work.size)
        if self.folder is None:
            with Workers(work.prepare, work.arguments, self.workers) as pool:
                yield from pool.map(chunks)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.place, Local):
            yield from self._here(work, self.folder, chunks)
        else:
            yield from self._on_cluster(work, self.folder, chunks)

    def _here(
        self, work: Work[Item, Result], folder: Path, chunks: Iterator[SizedList[Item]]
    ) -> Iterator[Result]:
        number = 0
        for task in _tasks(work, chunks):
            kept = _kept(work, _result(folder, number), task.key)
            if kept is None:
                break
            yield from kept
            number += 1
        else:
            return
        ends: deque[_Task[Item]] = deque()
        rest = _noted(chain([task], _tasks(work, chunks)), ends)
        done: list[Result] = []
        with Workers(work.prepare, work.arguments, self.workers) as pool:
            for result in pool.map(rest):
                done.append(result)
                whole = ends and len(done) == len(ends[0].chunks)
                if whole and (task := ends.popleft()).whole:
                    with atomic_file(_result(folder, number)) as scratch:
                        work.write_results(scratch, task.key, done)
                if whole:
                    done, number = [], number + 1
                yield result

    def _on_cluster(
        self, work: Work[Item, Result], folder: Path, chunks: Iterator[SizedList[Item]]
    ) -> Iterator[Result]:
        keys, missing = [], []
        for refused in folder.glob("error-*"):
            refused.unlink()
        for number, task in enumerate(_tasks(work, chunks)):
            keys.append(task.key)
            if _kept(work, _result(folder, number), task.key) is None:
                missing.append(number)
                with atomic_file(_items(folder, number), concurrent=True) as scratch:
                    work.write_items(scratch, [item for chunk in task.chunks for item in chunk])
        if missing:
            assert not isinstance(self.place, Local)
            todo = _TaskRunner(work, folder, tuple(missing), tuple(keys))
            run_on_cluster(self.place, todo, len(missing), folder, self.progress)
            _raise_error(folder)
        for number, key in enumerate(keys):
            kept = _kept(work, _result(folder, number), key)
            if kept is None:
                raise StageFailed(
                    f"task {number} of {len(keys)} has no result in {folder}",
                    hint=f"Look into the logs in {folder}. The same command does what is missing.",
                )
            yield from kept
            _items(folder, number).unlink(missing_ok=True)


@dataclass
class _Task(Generic[Item]):
    """The chunks of a task, the hash of what they hold, and whether it has its full size."""

    chunks: list[SizedList[Item]]
    key: str
    whole: bool


def _tasks(work: Work[Item, Any], chunks: Iterator[SizedList[Item]]) -> Iterator[_Task[Item]]:
    """Group chunks to tasks of about `TASK_CHARACTERS`."""
    settings = repr(work.arguments).encode()
    group: list[SizedList[Item]] = []
    size, hashed = 0, blake2b(settings, digest_size=16)
    for chunk in chunks:
        group.append(chunk)
        size += chunk.size + _ITEM_CHARACTERS * len(chunk)
        for item in chunk:
            content = work.content(item).encode("utf-8", "surrogatepass")
            hashed.update(len(content).to_bytes(8, "little") + content)
        if size >= TASK_CHARACTERS:
            yield _Task(group, hashed.hexdigest(), whole=True)
            group, size, hashed = [], 0, blake2b(settings, digest_size=16)
    if group:
        yield _Task(group, hashed.hexdigest(), whole=False)


def _noted(tasks: Iterable[_Task[Item]], noted: deque[_Task[Item]]) -> Iterator[SizedList[Item]]:
    """Yield the chunks of tasks, and note each task before its first."""
    for task in tasks:
        noted.append(task)
        yield from task.chunks


def _result(folder: Path, number: int) -> Path:
    return folder / f"result-{number:06d}"


def _items(folder: Path, number: int) -> Path:
    return folder / f"items-{number:06d}"


def _kept(work: Work[Any, Result], path: Path, key: str) -> list[Result] | None:
    """Return kept results; None if there are none, or they are damaged or of other items or settings."""
    if not path.exists():
        return None
    try:
        made_of, results = work.read_results(path)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile):
        return None
    return results if made_of == key else None


def _raise_error(folder: Path) -> None:
    """Raise the first error that a task has told, as it would have been raised here."""
    for path in sorted(folder.glob("error-*")):
        told = json.loads(path.read_text(encoding="utf-8"))
        error = DataError(told["message"], hint=told["hint"])
        error.exit_code = told["exit_code"]
        raise error


@dataclass(frozen=True)
class _TaskRunner:
    """The tasks of a cluster: called with the place of one among those to do."""

    work: Work[Any, Any]
    folder: Path
    numbers: tuple[int, ...]
    keys: tuple[str, ...]

    @cached_property
    def _do(self) -> Callable[[list[Any]], Any]:
        return self.work.prepare(*self.work.arguments)

    def __call__(self, place: int) -> None:
        number = self.numbers[place]
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one processor
        items = self.work.read_items(_items(self.folder, number))
        try:
            results = [self._do(chunk) for chunk in chunked(items, self.work.size)]
        except CptError as error:  # it is the text's, and would come again: the task has ended
            told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
            write_text(self.folder / f"error-{number:06d}", json.dumps(told), concurrent=True)
            return
        with atomic_file(_result(self.folder, number), concurrent=True) as scratch:
            self.work.write_results(scratch, self.keys[number], results)
