"""Hold Ctrl-C and SIGTERM (preemption) back until a checkpoint is saved, so that nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | None


class HeldSignals:
    """A block that holds back the first Ctrl-C or SIGTERM, and delivers it at its end.

    A second Ctrl-C is delivered at once. A second SIGTERM is not: a scheduler and a launcher may both send
    one, and a sender that cannot wait sends SIGKILL. Only the main thread may set signal handlers; in other
    threads nothing is held back. Signals that are ignored stay ignored.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, _Handler] = {}
        self.received: signal.Signals | None = None

    @property
    def came(self) -> bool:
        """Return True if a signal is held back."""
        return self.received is not None

    def __enter__(self) -> HeldSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._hold)
        return self

    def heed_others(self) -> signal.Signals:
        """Return the signal to deliver; it is SIGTERM if only another process of the run received one."""
        self.received = self.received or signal.SIGTERM
        return self.received

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self.received is not None and error is None:
            self._deliver(self.received)

    def _hold(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            self._restore()
            self._deliver(signal.Signals(number))

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _deliver(self, number: signal.Signals) -> None:
        handler = self._before.get(number)
        if callable(handler):
            handler(number, None)
        elif handler is not None:
            signal.raise_signal(number)
        raise KeyboardInterrupt  # a handler that lets the program go on does not finish the training
