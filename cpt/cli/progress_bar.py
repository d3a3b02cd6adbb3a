"""Show a command's progress on standard error: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cpt.cli.heartbeat import SECONDS_OF_SILENCE
from cpt.cli.output import err
from cpt.formatting import duration
from cpt.progress import NullProgress
from cpt.recipe.events import EtaEstimator, StageAdvanced
from cpt.recipe.failures import interruptible


class ProgressBar(NullProgress):
    """The messages and the progress of a command."""

    def __init__(self) -> None:
        self._console = err()
        self._bar = Progress(
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._written = time.monotonic()
        self._gauge = EtaEstimator()

    def start(self) -> None:
        """Start to draw."""
        if self._console.is_terminal:
            self._bar.start()

    def stop(self) -> None:
        """Stop drawing."""
        if self._console.is_terminal:
            self._bar.stop()

    def message(self, text: str) -> None:
        """Print one line."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def update(self, done: int, total: int | None, unit: str, **facts: float) -> None:  # noqa: ARG002
        """Show the progress and the time left; `total` is None where it is not known."""
        self._gauge.update(StageAdvanced("", done, total or 0, unit))
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=total, description=unit, visible=done != total)
        elif time.monotonic() - self._written >= SECONDS_OF_SILENCE:
            self._written = time.monotonic()
            left = self._gauge.seconds_left
            ending = f", {duration(left)} left" if left and left >= 1 else ""
            self.message(f"{done:,}{'' if total is None else f'/{total:,}'} {unit}{ending}")


@contextmanager
def show_progress(*, resumable: bool) -> Iterator[ProgressBar]:
    """Show the progress of a command, and report if it is stopped from outside.

    Args:
        resumable: True if the same command continues where this one was stopped.
    """
    view = ProgressBar()
    hint = "The same command continues: what the model answered is kept." if resumable else None
    view.start()
    try:
        with interruptible(hint):
            yield view
    finally:
        view.stop()
