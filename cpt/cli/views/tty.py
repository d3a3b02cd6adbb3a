"""Show a run on a terminal: stages, progress of the current stage, and its last messages."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Container, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cpt.cli.views.metric_lines import outcome_in_words, reading_lines, verdict_style
from cpt.formatting import duration, fact
from cpt.recipe.events import (
    EtaEstimator,
    Event,
    PlannedStage,
    RunEnded,
    RunStarted,
    StageAdvanced,
    StageEnded,
    StageMessage,
    StageStarted,
    TrainingEvent,
)

_MESSAGES = 3
_MARKS = {
    "cached": Text("✓", style="dim"),
    "skipped": Text("·", style="dim"),
    "finished": Text("✓", style="green"),
    "failed": Text("✗", style="bold red"),
    "interrupted": Text("■", style="yellow"),
    "broken": Text("!", style="bold red"),
    "not shown": Text("?", style="bold yellow"),
}


class TtyView:
    """A view that redraws itself in place; rich calls it four times a second so that the clocks move."""

    def __init__(self, console: Console) -> None:
        self._live = Live(
            self, console=console, refresh_per_second=4, redirect_stdout=True, redirect_stderr=True
        )
        self._spinner = Spinner("dots", style="cyan")
        self._name = ""
        self._stages: dict[str, PlannedStage] = {}
        self._outcomes: dict[str, tuple[str, float]] = {}
        self._notes: dict[str, str] = {}
        self._current: str | None = None
        self._begun = self._run_begun = time.monotonic()
        self._eta = EtaEstimator()
        self._messages: deque[str] = deque(maxlen=_MESSAGES)
        self._readings: dict[str, Mapping[str, Any]] = {}
        self._verdict: Mapping[str, Any] = {}
        self._seconds: float | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(name=name, stages=stages):
                self._name, self._stages = name, {stage.stage: stage for stage in stages}
                self._run_begun = time.monotonic()
                self._live.start()
            case StageStarted(stage=stage):
                self._current, self._begun = stage, time.monotonic()
                self._eta = EtaEstimator()
                self._messages.clear()
                self._readings, self._verdict = {}, {}
            case StageMessage(text=text):
                self._messages.extend(text.splitlines())
            case StageAdvanced():
                self._eta.update(event)
            case TrainingEvent(kind="reading", facts=facts):
                self._readings[facts["probe"]] = facts
            case TrainingEvent(kind="verdict", facts=facts):
                self._verdict = facts
            case TrainingEvent(kind="action" | "mixture", facts=facts):
                self._messages.append(f"step {facts['step']:,}: {facts['said']}")
            case StageEnded(stage=stage, outcome=outcome, seconds=seconds, verdict=verdict):
                self._outcomes[stage] = (verdict or outcome, seconds)
                self._notes[stage] = self._facts()
                self._current = None
            case RunEnded(seconds=seconds):
                self._seconds = seconds
                self._live.stop()

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True, min_width=6)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for stage in self._stages.values():
            table.add_row(*self._row(stage))
            if stage.stage == self._current:
                for line in self._details():
                    table.add_row("", "", "", line)
        elapsed = self._seconds if self._seconds is not None else time.monotonic() - self._run_begun
        heading = Text.assemble((self._name, "bold"), "  ", (duration(elapsed), "dim"))
        return Group(heading, Padding(table, (0, 0, 0, 2)))

    def _row(self, stage: PlannedStage) -> tuple[Any, ...]:
        if stage.stage == self._current:
            clock = duration(time.monotonic() - self._begun)
            return self._spinner, Text(stage.stage, style="bold"), clock, self._bar()
        if stage.stage in self._outcomes:
            outcome, seconds = self._outcomes[stage.stage]
            note = self._notes[stage.stage] if outcome == "finished" else outcome_in_words(outcome)
            return _MARKS[outcome], Text(stage.stage), duration(seconds), Text(note, style="dim")
        if stage.action in _MARKS:
            return _MARKS[stage.action], Text(stage.stage, style="dim"), "", Text(stage.action, style="dim")
        return "", Text(stage.stage, style="dim"), "", Text(stage.forecast, style="dim")

    def _bar(self) -> RenderableType:
        eta = self._eta
        if eta.total <= 0:
            return Text("")
        left = eta.seconds_left
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(
            ProgressBar(total=eta.total, completed=eta.done, width=24, complete_style="cyan"),
            Text(f"{eta.done:,}/{eta.total:,} {eta.unit}"),
            Text(f"{duration(left)} left" if left and left >= 1 else "", style="cyan"),
        )
        return row

    def _details(self) -> list[Text]:
        gates = self._verdict.get("gates", [])
        lines = [Text(facts)] if (facts := self._facts(self._readings)) else []
        if self._verdict.get("said"):
            lines.append(Text(self._verdict["said"], style=verdict_style(gates)))
        lines += reading_lines(list(self._readings.values()), gates)
        return lines + [Text(text, style="dim") for text in self._messages]

    def _facts(self, shown: Container[str] = ()) -> str:
        """Return the metrics of the last update, without those shown elsewhere."""
        facts = self._eta.facts.items()
        return "  ".join(fact(name, value) for name, value in facts if name not in shown)
