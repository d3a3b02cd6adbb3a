"""SIGTERM stops what runs as Ctrl-C does, and is told apart from it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Termination(KeyboardInterrupt):
    """SIGTERM: the scheduler, not the user, wants the program to stop."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop what runs inside as Ctrl-C does. Only the main thread may set signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise Termination

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
