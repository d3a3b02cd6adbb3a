"""The one protocol by which stages and libraries report progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """A receiver of progress. A command shows it, a library may ignore it."""

    def message(self, text: str) -> None:
        """Receive a sentence about the work that begins or has ended."""

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        """Receive the state of countable work.

        Args:
            done: Number of units that are done.
            total: Number of all units.
            unit: Name of a unit: "step", "documents".
            facts: Current figures by name: loss, tokens_per_second.
        """

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Receive an event of training.

        Args:
            kind: "reading" of a probe, "action" of the gate controller, "verdict" on the limits, or an
                update of the "mixture".
            facts: The event as plain data.
        """


class NullProgress:
    """A `Progress` that shows nothing."""

    def message(self, text: str) -> None:
        pass

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        pass

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        pass


class MessageProgress(NullProgress):
    """A `Progress` that passes messages to a function, such as `print`."""

    def __init__(self, receive: Callable[[str], None]) -> None:
        self._receive = receive

    def message(self, text: str) -> None:
        self._receive(text)
