"""The cpt command in forked processes that have imported everything: a case takes a fraction of a second."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["faults.preloading"])


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, negative for a signal, None where it had to be killed after its time.
        seconds: wall time.
        peak: peak resident memory in bytes.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak: int


def run(words: Sequence[str], folder: Path, seconds: float, kill_after: float | None = None) -> Ended:
    """Run one command in a folder, and kill it (SIGKILL) after its time.

    Args:
        words: arguments of the command.
        seconds: wall time after which the command counts as hanging.
        kill_after: seconds after which it is killed on purpose.
    """
    files = [folder / f".{name}" for name in ("stdout", "stderr", "peak")]
    process = _FORKED.Process(target=_command, args=(list(words), folder, files))
    begun = time.monotonic()
    process.start()
    process.join(seconds if kill_after is None else kill_after)
    hung = process.is_alive()
    if hung:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()
    took = time.monotonic() - begun
    out, err, peak = (file.read_text(errors="replace") if file.is_file() else "" for file in files)
    for file in files:
        file.unlink(missing_ok=True)
    killed = hung and kill_after is None
    return Ended(None if killed else process.exitcode, out, err, took, int(peak or 0))


def _command(words: list[str], folder: Path, files: list[Path]) -> None:
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out, err, peak = files
    os.chdir(folder)
    os.environ |= {
        "CPT_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
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
