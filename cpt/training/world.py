"""The processes that one command was launched as, seen from one of them.

`accelerate launch` and `torchrun` start the same command several times and say in the environment which of
them each one is. The first process does all the work and writes all files; the others wait until it tells
them to take part in training. They talk through the launcher's key-value store, not through collectives: a
wait in a store may last for days, and needs nobody to answer.

Outside of training every process is alone: its place is taken out of the environment, so that a library
that looks there (lm-eval does) does not wait for others that know nothing of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cpt.errors import UsageError

if TYPE_CHECKING:
    from torch.distributed import Store

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other within training: the first one may be writing a checkpoint."""

_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
GRACE = 3.0
"""Seconds in which processes that end are given the time to say so."""

_POLL = 0.1
_END, _LEFT, _FAILURE = "end", "left", "failure"
_PR_SET_PDEATHSIG = 1


@dataclass
class World:
    """A process among those of one run.

    Attributes:
        rank: this process's number; 0 is the main process.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1
    _store: Store | None = None
    _place: dict[str, str] = field(default_factory=dict)
    _told: int = 0
    _groups: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Put the process's place back into the environment, for who joins a group of processes."""
        os.environ.update(self._place)
        try:
            yield
        finally:
            _take_out(self._place)

    def fresh_store(self) -> Store:
        """A store for one group of processes: every process gets the same one when all ask equally often."""
        from torch.distributed import PrefixStore

        self._groups += 1
        return PrefixStore(f"group-{self._groups}", self.store)

    @property
    def store(self) -> Store:
        if self._store is None:
            raise RuntimeError("a process that is alone has nobody to talk to")
        return self._store

    def tell(self, task: Any) -> None:
        """Main process: tell all others what to do next, as JSON data."""
        if self.count > 1:
            self.store.set(f"task-{self._told}", json.dumps(task))
            self._told += 1

    def hear(self, leaving: Stop) -> Any:
        """Other processes: the next task, or None when there is nothing more to do."""
        key = f"task-{self._told}"
        while not (self.ended or leaving.overdue):
            if self.store.check([key]):
                self._told += 1
                return json.loads(self.store.get(key))
            time.sleep(_POLL)
        return None

    @property
    def ended(self) -> bool:
        """Whether the main process has said that it ends, or can no longer be reached."""
        try:
            return self.store.check([_END])
        except RuntimeError:
            return True

    def end(self, code: int) -> None:
        """Main process: say that the run ends with this exit code, and let the others leave."""
        if self.count == 1:
            return
        with suppress(RuntimeError):  # the launcher may be gone, and its store with it
            self.store.set(_END, str(code))
            _disconnect()
            if code == 0:  # the store may live in this process, and they must hear that all is well
                self._wait_until(lambda: self.store.add(_LEFT, 0) >= self.count - 1)

    def leave(self) -> int:
        """Other processes: say goodbye; returns the main process's exit code.

        A launcher stops all processes as soon as one has failed, so the main process, which may have things
        to say, must be the first to end with an error.
        """
        code = self.exit_code
        with suppress(RuntimeError):
            self.store.add(_LEFT, 1)
        if code:
            time.sleep(GRACE)
        return code

    @property
    def exit_code(self) -> int:
        """The main process's exit code; 1 if it has ended without a word."""
        try:
            return int(self.store.get(_END)) if self.store.check([_END]) else 1
        except RuntimeError:
            return 1

    def report(self, message: str, hint: str | None) -> bool:
        """Other processes: say why this one cannot go on; returns whether the main process then ends."""
        with suppress(RuntimeError):
            self.store.set(_FAILURE, json.dumps({"message": message, "hint": hint}))
            _disconnect()
        return self._wait_until(lambda: self.ended)

    def reported(self) -> dict[str, str] | None:
        """Main process: the message and the hint of another process that cannot go on."""
        with suppress(RuntimeError):
            if self.count > 1 and self.store.check([_FAILURE]):
                failure: dict[str, str] = json.loads(self.store.get(_FAILURE))
                return failure
        return None

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > GRACE:
                return False
            time.sleep(_POLL)
        return True


class Stop:
    """A launcher's wish that a process ends. The main process decides when; if it cannot, time does."""

    def __init__(self) -> None:
        self._asked: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, *_: Any) -> None:
        self._asked = self._asked or time.monotonic()

    @property
    def overdue(self) -> bool:
        """Whether the main process has had time enough."""
        return self._asked is not None and time.monotonic() - self._asked > GRACE


@cache
def world() -> World:
    """The world of this process, found once from what the launcher has put into the environment.

    Raises:
        UsageError: several processes were started in a way in which they cannot find each other.
    """
    place = {name: os.environ[name] for name in _PLACE if name in os.environ}
    if int(place.get("WORLD_SIZE", "1")) == 1 or "RANK" not in place:
        _refuse_lost_processes()
        _take_out(place)
        return World()
    if not all(name in os.environ for name in _ADDRESS):
        raise UsageError(
            "WORLD_SIZE says that there are several processes, but not where they meet",
            hint="Start them with accelerate launch or torchrun, or set MASTER_ADDR and MASTER_PORT.",
        )
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    _end_with_the_launcher()
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    _take_out(place)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # whose store may be that of the one before
    return World(rank, count, PrefixStore(f"cpt-{attempt}", store), place)


def _disconnect() -> None:
    """Let processes that wait for this one in a collective operation know that it will not come.

    On GPUs nobody would notice, and to wait for what is still running there could take for ever.
    """
    from torch import distributed

    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _take_out(place: dict[str, str]) -> None:
    for name in place:
        os.environ.pop(name, None)


def _refuse_lost_processes() -> None:
    """Without a place, each of several processes would think itself the only one, and write all files."""
    by_mpi = any(int(os.environ.get(name, "1")) > 1 for name in _MPI_SIZES)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"true", "1", "yes"}
    if by_mpi or (on_cpu and "MASTER_ADDR" in os.environ):
        raise UsageError(
            "accelerate starts several processes on CPUs only through MPI, which cpt does not support",
            hint="Use `cpt run RECIPE -- --cpu --num_processes N` or `torchrun --nproc_per_node N -m cpt …`.",
        )


def _end_with_the_launcher() -> None:
    """Have the kernel (Linux) stop this process when its launcher is killed, which cannot say so itself."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
