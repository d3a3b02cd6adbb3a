"""Start the processes of a sweep, and follow them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpt.errors import CptError, UsageError
from cpt.recipe.journal import find_run

_BETWEEN_LINES = 10.0
"""Seconds between two lines on the progress of a run; its time is written down at the same pace."""


@dataclass(frozen=True)
class Execution:
    """The way in which runs are started.

    Attributes:
        runs: Folder of all runs.
        jobs: Number of runs at the same time.
        launcher: Words before the command, such as `srun --gpus 1`.
        options: Options of `accelerate launch` for every run.
    """

    runs: Path
    jobs: int = 1
    launcher: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Process:
    """A running `cpt run`, with its output in files.

    Args:
        command: Words of the command.
        log: Path of its output, without the end of the name.
        jobs: Number of runs at the same time.
        before: Seconds of earlier attempts.
    """

    def __init__(self, command: Sequence[str], log: Path, jobs: int, before: float = 0.0) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._stderr = log.with_name(f"{log.name}.err.log")
        self._begun = self._told = time.monotonic()
        self._before = before
        environment = dict(os.environ)
        if jobs > 1:  # or each run would start as many threads as there are cores
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        with log.with_name(f"{log.name}.out.log").open("wb") as out, self._stderr.open("wb") as err:
            try:
                self._process = subprocess.Popen(
                    command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environment
                )
            except OSError as error:
                raise UsageError(
                    f"cannot start {command[0]}: {error.strerror}", hint="Look at --launcher."
                ) from error

    @property
    def seconds(self) -> float:
        """Seconds of this process until now, and of the attempts before it."""
        return self._before + time.monotonic() - self._begun

    def poll(self) -> int | None:
        return self._process.poll()

    def is_due(self) -> bool:
        """Return True if a line on the progress is due."""
        due = time.monotonic() - self._told >= _BETWEEN_LINES
        if due:
            self._told = time.monotonic()
        return due

    def error(self) -> str:
        """Return the error that the process printed: from the last line that begins with `error`."""
        lines = self._stderr.read_text(encoding="utf-8", errors="replace").splitlines()
        begins = [place for place, line in enumerate(lines) if line.startswith("error")]
        return "\n".join(lines[begins[-1] :] if begins else lines[-3:]).removeprefix("error: ")

    def stop(self) -> None:
        """Ask the process to save its work and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        self._process.wait()


def progress_of(folder: Path) -> str:
    """Return the progress of a running run in words."""
    try:
        run = find_run(folder.parent, folder.name)
    except CptError:
        return "begins"
    found = run.data.get("progress")
    if not found:
        return ", ".join(name for name, stage in run.stages.items() if stage["state"] == "running")
    return f"{found['stage']} {found['done']:,}/{found['total']:,} {found['unit']}"
