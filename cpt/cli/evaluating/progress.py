"""What an evaluation is doing, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cpt.cli.output import err
from cpt.formatting import duration
from cpt.recipe.progress import Advanced, EtaEstimator
from cpt.recipe.stopping import interruptible

SECONDS_BETWEEN_LINES = 10.0


class Shown:
    """Messages and gauges for people."""

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
        """Begin to draw."""
        if self._console.is_terminal:
            self._bar.start()

    def stop(self) -> None:
        """Draw no more."""
        if self._console.is_terminal:
            self._bar.stop()

    def message(self, text: str) -> None:
        """One line."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def update(self, done: int, total: int | None, unit: str) -> None:
        """Return the progress and the time left; None where the total is not known."""
        self._gauge.update(Advanced("", done, total or 0, unit))
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=total, description=unit, visible=done != total)
        elif time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._written = time.monotonic()
            left = self._gauge.seconds_left
            ending = f", {duration(left)} left" if left and left >= 1 else ""
            self.message(f"{done:,}{'' if total is None else f'/{total:,}'} {unit}{ending}")


@contextmanager
def shown(*, kept: bool) -> Iterator[Shown]:
    """Where a command says what it is doing; stopped from outside, it says so.

    Args:
        kept: whether the same command goes on where this one was stopped.
    """
    view = Shown()
    hint = "The same command continues: what the model answered is kept." if kept else None
    view.start()
    try:
        with interruptible(hint):
            yield view
    finally:
        view.stop()
