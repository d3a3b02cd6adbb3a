"""Runs of a sweep as forks of the test: the real runner and store over the fake stages, without imports."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_stages

from cpt.errors import CptError
from cpt.recipe.journal import find_run
from cpt.recipe.load import load
from cpt.recipe.runner import run

STEP_SECONDS = 0.02


class ForkedPopen:
    """Stands in for `subprocess.Popen`: runs `cpt run RECIPE OVERRIDES --runs RUNS` in a fork."""

    def __init__(self, command: list[str], stdout: Any, stderr: Any, **_: Any) -> None:
        self._code: int | None = None
        words = command[command.index("run") + 1 :]
        self.pid = fork(lambda: _run(words, stdout.fileno(), stderr.fileno()))

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> None:
        while self.poll() is None:
            time.sleep(0.01)


def fork(action: Callable[[], None]) -> int:
    """Run an action in a fork that leaves no trace in the test's own process; return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        action()
        os._exit(0)
    finally:
        os._exit(70)


def _run(words: list[str], out: int, err: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 4096)  # the sweep's lock among them, as a started program closes it
    recipe, *overrides = words[: words.index("--runs")]
    try:
        os._exit(run(load(Path(recipe), overrides), Path(words[words.index("--runs") + 1])).exit_code)
    except CptError as error:
        os.write(2, f"error: {error}\n".encode())
        os._exit(error.exit_code)


def changes_of(folder: Path) -> dict[str, float]:
    """Return changes that depend on all that the run's model was made of."""
    digest = find_run(folder.parent, folder.name).finished()["pretrain"].metrics["content"]
    return {name: int(digest[at : at + 6], 16) / 2**24 for at, name in enumerate(("domain", "general"))}


def replace_processes(monkeypatch: Any, made: Path) -> None:
    """Let sweeps run forks.

    Args:
        monkeypatch: Fixture of the test.
        made: File with a line for each stage that begins.
    """
    popen = SimpleNamespace(Popen=ForkedPopen, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr("cpt.sweep.process.subprocess", popen)
    monkeypatch.setattr("cpt.sweep.run.changes_of", changes_of)
    monkeypatch.setattr("cpt.sweep.run._PAUSE", 0.01)

    def hook(context: Any, step: int) -> None:
        if step == 0:
            with made.open("a") as file:
                file.write(f"{context.output.name}\n")
        time.sleep(STEP_SECONDS)

    for kind in ("corpus", "pretrain"):
        fake_stages.HOOKS[kind] = hook
