"""Explain what stops a run from outside: a full disk, a refused path, too little memory, SIGTERM.

Functions here turn exceptions into errors that name the folder and the remedy, and signals into exceptions.
"""

from __future__ import annotations

import errno
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from cpt.errors import CptError, Interrupted, StageFailed, Terminated
from cpt.escaping import escape_controls
from cpt.training.world import world

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNUSABLE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL}
REFUSED = _DENIED | _UNUSABLE
"""Error numbers of paths that cannot be used as they are."""

RUNS = "--runs DIR"
_CONTINUES = "The same command then continues."
_LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


def explain_os_error(error: OSError, folder: Path, option: str = "") -> StageFailed:
    """Return an operating system error as a message that names the folder and the remedy.

    Args:
        option: Command-line option that chooses another folder; empty if there is none.
    """
    path = error.filename or folder
    with_option = f" with {option}" if option else ""
    if error.errno in _FULL:
        return StageFailed(
            f"no space left on the disk of {folder}",
            hint=f"Free some space, or choose a folder on another disk{with_option}.",
        )
    if error.errno in _DENIED:
        reason = "is on a read-only disk" if error.errno == errno.EROFS else "permission denied"
        return StageFailed(
            f"{path}: {reason}", hint=f"Change its permissions, or choose another folder{with_option}."
        )
    reason = error.strerror or str(error)
    other = f" or choose another folder{with_option} if it is the run's" if option else ""
    return StageFailed(f"{path}: {reason}", hint=f"Check the path{other}.")


def explain_failure(error: Exception, stage: str, run_folder: Path) -> CptError:
    """Return any exception that a stage raised as the error that the user sees.

    An unexpected one is written with its traceback to `error.log` in the run's folder.
    """
    if isinstance(error, CptError):
        return error
    refusal = _refusal(error)
    if refusal is not None:
        explained = explain_os_error(refusal, run_folder, RUNS)
        return StageFailed(f"{stage}: {explained.message}", hint=f"{explained.hint} {_CONTINUES}")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        hint = "Make its batch, sequence length or model smaller, or give it more memory."
        return StageFailed(f"{stage}: not enough memory", hint=f"{hint} {_CONTINUES}")
    if _lost_process(error):
        return StageFailed(
            f"{stage}: another process of this run has ended", hint="The same command continues."
        )
    log = _write_log(error, stage, run_folder)
    hint = f"The traceback is in {log}." if log else "Run it with --debug to see the traceback."
    return StageFailed(f"{stage}: unexpected {type(error).__name__}: {_first_line(error)}", hint=hint)


def _refusal(error: BaseException) -> OSError | None:
    """Return the operating system error behind an exception, also when a library reworded it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL | _DENIED:
            return cause
        if "No space left on device" in str(cause):
            return OSError(errno.ENOSPC, "No space left on device")
        cause = cause.__cause__ or cause.__context__
    return None


def _lost_process(error: Exception) -> bool:
    """Return True if the error comes from the loss of another process of this run."""
    return type(error).__name__.startswith("Dist") or any(sign in str(error) for sign in _LOST)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "(no message)"


def _write_log(error: Exception, stage: str, run_folder: Path) -> Path | None:
    log = run_folder / "error.log"
    heading = f"--- {datetime.now(UTC).isoformat(timespec='seconds')} stage {stage}\n"
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(escape_controls(heading + "".join(traceback.format_exception(error))) + "\n")
    except OSError:
        return None
    return log


class Termination(KeyboardInterrupt):
    """SIGTERM: the scheduler, not the user, stops the program."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop the block as Ctrl-C does.

    Only the main thread may set signal handlers; in another thread nothing is changed. A launcher of several
    processes sends SIGTERM to all as soon as one has failed. So after an error on one of several, no further
    SIGTERM is heard, and the process can report its error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signum: int, _frame: FrameType | None) -> None:
        stop_listening()
        raise Termination

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, before)
        stop_listening()
        raise
    signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible(hint: str | None = None) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM in the block into errors, each with its own exit code.

    Args:
        hint: What the same command does when it is started again.

    Raises:
        Interrupted: Ctrl-C.
        Terminated: SIGTERM.
    """
    try:
        with stoppable():
            yield
    except Termination:
        raise Terminated("terminated", hint=hint) from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint=hint) from None


def stop_listening() -> None:
    """Ignore SIGTERM from now on if this is one of several processes: it is about to end anyway."""
    if world().count > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
