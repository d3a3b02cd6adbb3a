"""What fetching and converting need in order to say what they do."""

from __future__ import annotations

from typing import Protocol


class Messages(Protocol):
    """Anything with a `message` method; the stages' `Progress` is one."""

    def message(self, text: str) -> None: ...


class NoMessages:
    """Says nothing."""

    def message(self, text: str) -> None:
        pass
