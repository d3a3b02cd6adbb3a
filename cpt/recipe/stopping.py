"""SIGTERM stops what runs as Ctrl-C does, and is told apart from it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cpt.errors import Interrupted, Terminated
from cpt.training.distributed.context import distributed_context


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
    if distributed_context().count > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
