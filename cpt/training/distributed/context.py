"""The processes of one launched command, seen from one of them.

`accelerate launch` and `torchrun` start the same command several times and put the rank of each process into
its environment. The main process does all the work and writes all files; the workers wait until it gives them
a task of training. Processes talk through the launcher's key-value store, not through collectives: a wait in
a store may last for days, and needs no process that answers.

Outside training every process is alone: its rank is taken out of the environment. A library that looks there
(lm-eval does) would otherwise wait for processes that do not run it.
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

COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Longest wait of a process for the others within training: the main one may be writing a checkpoint."""

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
GRACE_SECONDS = 3.0
"""Seconds that a process waits for others to acknowledge that it ends."""

_POLL = 0.1
_END, _LEFT, _FAILURE = "end", "left", "failure"
_PR_SET_PDEATHSIG = 1


@dataclass
class DistributedContext:
    """One process among those of a run.

    Attributes:
        rank: Rank of this process; 0 is the main process.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1
    _store: Store | None = None
    _variables: dict[str, str] = field(default_factory=dict)
    _tasks: int = 0
    _groups: int = 0

    @property
    def is_main(self) -> bool:
        """Return True for the process that writes files."""
        return self.rank == 0

    @contextmanager
    def launch_environment(self) -> Iterator[None]:
        """Put the rank back into the environment inside the block, to join a process group."""
        os.environ.update(self._variables)
        try:
            yield
        finally:
            _remove(self._variables)

    def new_store(self) -> Store:
        """Return a store for one process group: the n-th call returns the same store in every process."""
        from torch.distributed import PrefixStore

        self._groups += 1
        return PrefixStore(f"group-{self._groups}", self.store)

    @property
    def store(self) -> Store:
        """Return the launcher's key-value store."""
        if self._store is None:
            raise RuntimeError("a single process has no store")
        return self._store

    def broadcast_task(self, task: Any) -> None:
        """Send the workers their next task (main process).

        Args:
            task: JSON data.
        """
        if self.count > 1:
            self.store.set(f"task-{self._tasks}", json.dumps(task))
            self._tasks += 1

    def next_task(self, stop: StopRequest) -> Any:
        """Wait for the next task and return it, or None when the run ends (workers)."""
        key = f"task-{self._tasks}"
        while not (self.is_shut_down or stop.overdue):
            if self.store.check([key]):
                self._tasks += 1
                return json.loads(self.store.get(key))
            time.sleep(_POLL)
        return None

    @property
    def is_shut_down(self) -> bool:
        """Return True if the main process ends, or can no longer be reached."""
        try:
            return self.store.check([_END])
        except RuntimeError:
            return True

    def shutdown(self, code: int) -> None:
        """End the run with an exit code, and let the workers leave (main process)."""
        if self.count == 1:
            return
        with suppress(RuntimeError):  # the launcher may be gone, and its store with it
            self.store.set(_END, str(code))
            _disconnect()
            if code == 0:  # the store may live in this process, and the workers must read the code
                self._wait_until(lambda: self.store.add(_LEFT, 0) >= self.count - 1)

    def leave(self) -> int:
        """Acknowledge the shutdown and return the main process's exit code (workers).

        A launcher stops all processes as soon as one has failed. The main process may still print messages,
        so it must be the first to end with an error.
        """
        code = self.exit_code
        with suppress(RuntimeError):
            self.store.add(_LEFT, 1)
        if code:
            time.sleep(GRACE_SECONDS)
        return code

    @property
    def exit_code(self) -> int:
        """Return the main process's exit code, or 1 if it ended without one."""
        try:
            return int(self.store.get(_END)) if self.store.check([_END]) else 1
        except RuntimeError:
            return 1

    def report_failure(self, message: str, hint: str | None) -> bool:
        """Report why this process cannot go on; return True if the main process then ends (workers)."""
        with suppress(RuntimeError):
            self.store.set(_FAILURE, json.dumps({"message": message, "hint": hint}))
            _disconnect()
        return self._wait_until(lambda: self.is_shut_down)

    def failure_report(self) -> dict[str, str] | None:
        """Return the message and the hint of a worker that cannot go on, if there is one (main process)."""
        with suppress(RuntimeError):
            if self.count > 1 and self.store.check([_FAILURE]):
                failure: dict[str, str] = json.loads(self.store.get(_FAILURE))
                return failure
        return None

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > GRACE_SECONDS:
                return False
            time.sleep(_POLL)
        return True


class StopRequest:
    """A launcher's request that a worker stops. The main process decides when, then the worker."""

    def __init__(self) -> None:
        self._requested: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, *_: Any) -> None:
        self._requested = self._requested or time.monotonic()

    @property
    def overdue(self) -> bool:
        """Return True if the main process has had enough time to react."""
        return self._requested is not None and time.monotonic() - self._requested > GRACE_SECONDS


@cache
def distributed_context() -> DistributedContext:
    """Return the context of this process, read once from the launcher's environment variables.

    Raises:
        UsageError: Several processes were started in a way in which they cannot find each other.
    """
    variables = {name: os.environ[name] for name in _RANK_VARIABLES if name in os.environ}
    if int(variables.get("WORLD_SIZE", "1")) == 1 or "RANK" not in variables:
        _refuse_lost_processes()
        _remove(variables)
        return DistributedContext()
    if not all(name in os.environ for name in _ADDRESS):
        raise UsageError(
            "WORLD_SIZE says that there are several processes, but not where they meet",
            hint="Start them with accelerate launch or torchrun, or set MASTER_ADDR and MASTER_PORT.",
        )
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    _die_with_the_launcher()
    store, rank, count = next(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT))
    _remove(variables)
    attempt = os.environ.get(
        "TORCHELASTIC_RESTART_COUNT", "0"
    )  # which may use the store of the attempt before
    return DistributedContext(rank, count, PrefixStore(f"cpt-{attempt}", store), variables)


def _disconnect() -> None:
    """Make the collective operations fail in which other processes wait for this one.

    On GPUs no process would notice, and waiting for what still runs there could take forever.
    """
    from torch import distributed

    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _remove(variables: dict[str, str]) -> None:
    for name in variables:
        os.environ.pop(name, None)


def _refuse_lost_processes() -> None:
    """Refuse several processes without ranks: each would think that it is alone, and write all files."""
    by_mpi = any(int(os.environ.get(name, "1")) > 1 for name in _MPI_SIZES)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"true", "1", "yes"}
    if by_mpi or (on_cpu and "MASTER_ADDR" in os.environ):
        raise UsageError(
            "accelerate starts several processes on CPUs only through MPI, which cpt does not support",
            hint="Use `cpt run RECIPE -- --cpu --num_processes N` or `torchrun --nproc_per_node N -m cpt …`.",
        )


def _die_with_the_launcher() -> None:
    """Have the kernel (Linux) stop this process when its launcher is killed: that sends no signal."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
