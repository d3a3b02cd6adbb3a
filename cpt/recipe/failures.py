"""What stops a stage from outside (a full disk, a read-only folder, too little memory), in plain words.

SIGTERM stops what runs as Ctrl-C does, and is told apart from it.
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
"""Numbers of the system's errors about a path that cannot be used as it is."""

RUNS = "--runs DIR"
_CONTINUES = "The same command then continues."
_LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


def explain_os_error(error: OSError, folder: Path, option: str = "") -> StageFailed:
    """A system's refusal as a message that names the folder and what to do.

    Args:
        option: What another folder is named with on the command line, if there is such an option.
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
    """Any exception that a stage let out, as the error that the user sees.

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
    """The operating system's refusal behind an exception, also when a library reworded it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL | _DENIED:
            return cause
        if "No space left on device" in str(cause):
            return OSError(errno.ENOSPC, "No space left on device")
        cause = cause.__cause__ or cause.__context__
    return None


def _lost_process(error: Exception) -> bool:
    """Whether a process that trains together with others has lost one of them."""
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
    """SIGTERM: the scheduler, not the user, wants the program to stop."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop what runs inside as Ctrl-C does. Only the main thread may set signal handlers.

    A launcher of several processes sends SIGTERM to all as soon as one has failed. So, once something has
    gone wrong on one of several, no further SIGTERM is heard, and the process can say what it was.
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
    """Report Ctrl-C and SIGTERM inside as errors, each with its own exit code.

    Args:
        hint: What the same command does when it is started again.

    Raises:
        Interrupted: Ctrl-C. Terminated: SIGTERM.
    """
    try:
        with stoppable():
            yield
    except Termination:
        raise Terminated("terminated", hint=hint) from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint=hint) from None


def stop_listening() -> None:
    """Ignore SIGTERM from now on, if this is one of several processes: it is about to end anyway."""
    if world().count > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
