"""Run the cpt command in forked processes that have imported everything: a fraction of a second each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["faults.preloading"])


@dataclass(frozen=True)
class Ended:
    """The end of a command.

    Attributes:
        code: Exit code, negative for a signal, None if it had to be killed after its time.
        seconds: Wall time.
        peak: Peak resident memory in bytes.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak: int


def run(words: Sequence[str], folder: Path, seconds: float, kill_after: float | None = None) -> Ended:
    """Run one command in a folder, and kill it (SIGKILL) after its time.

    Args:
        words: Arguments of the command.
        seconds: Wall time after which the command counts as hanging.
        kill_after: Seconds after which it is killed on purpose.
    """
    return Command(words, folder).wait(seconds, kill_after)


class Command:
    """A command that runs in a forked process.

    Args:
        words: Arguments of the command.
        environment: Variables to set in its process.
        prepare: Function that its process calls before the command, such as one that arranges its death.
        name: Name that tells commands in the same folder apart.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
        name: str = "",
    ) -> None:
        self._files = [folder / f".{name}{kind}" for kind in ("stdout", "stderr", "peak")]
        arguments = (list(words), folder, self._files, dict(environment or {}), prepare)
        self._process = _FORKED.Process(target=_command, args=arguments)
        self._begun = time.monotonic()
        self._process.start()

    def wait(self, seconds: float, kill_after: float | None = None) -> Ended:
        """Wait for the end of the command, and kill it after its time (`run`)."""
        process = self._process
        process.join(seconds if kill_after is None else kill_after)
        hung = process.is_alive()
        if hung:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()
        took = time.monotonic() - self._begun
        files = self._files
        out, err, peak = (file.read_text(errors="replace") if file.is_file() else "" for file in files)
        for file in files:
            file.unlink(missing_ok=True)
        killed = hung and kill_after is None
        return Ended(None if killed else process.exitcode, out, err, took, int(peak or 0))


def run_on_two(
    words: Sequence[str],
    folder: Path,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> tuple[Ended, Ended]:
    """Run one command as two processes that find each other, as a launcher would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first, second = (
        Command(
            words,
            folder,
            {"RANK": str(rank), "LOCAL_RANK": str(rank), **shared, **(environment or {})},
            prepare,
            name=f"{rank}-",
        )
        for rank in range(2)
    )
    return first.wait(seconds), second.wait(seconds)


def _command(
    words: list[str],
    folder: Path,
    files: list[Path],
    environment: dict[str, str],
    prepare: Callable[[], None] | None,
) -> None:
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out, err, peak = files
    os.chdir(folder)
    os.environ |= {
        "CPT_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **environment,
    }
    for file, number in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", errors="replace", closefd=False) for number in (1, 2))
    sys.argv = ["cpt", *words]

    import torch

    from cpt.cli import main

    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    try:
        code = main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        peak.write_text(str(_peak()))
    sys.exit(code)


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
