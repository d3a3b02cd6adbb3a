"""Show that a command is at work while nothing else is printed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.text import Text

from cpt.cli.output import err
from cpt.formatting import duration

SECONDS_OF_SILENCE = 10.0
"""Longest time without a line."""


@contextmanager
def heartbeat(beat: Callable[[], None], seconds: float = SECONDS_OF_SILENCE) -> Iterator[None]:
    """Call a function again and again, from a thread of its own, until the work within ends.

    Args:
        beat: Function that prints a line, or decides that none is needed.
        seconds: Time between two calls.
    """
    ended = threading.Event()

    def keep_beating() -> None:
        while not ended.wait(seconds):
            beat()

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def show_waiting(what: str, seconds: float = SECONDS_OF_SILENCE) -> Iterator[None]:
    """Print on standard error, every few seconds, what is being done and for how long.

    Args:
        what: The work in a few words.
        seconds: Time between two lines.
    """
    console, began = err(), time.monotonic()

    def say() -> None:
        line = f"{what}: at work for {duration(time.monotonic() - began)}"
        console.print(Text(line, style="dim"), soft_wrap=True)

    with heartbeat(say, seconds):
        yield
