"""A run as plain lines with the time, for logs and pipes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from cpt.cli.views.metric_lines import fields, unmet
from cpt.escaping import escape_line
from cpt.formatting import duration, fact
from cpt.recipe.progress import (
    Advanced,
    EtaEstimator,
    Event,
    Noted,
    RunEnded,
    RunStarted,
    Said,
    StageEnded,
    StageStarted,
)

SECONDS_BETWEEN_LINES = 10.0


class PlainView:
    """Writes a line for every change, and progress at most every ten seconds.

    An update with a fact that its predecessor did not have (a probe's value) is always written. What a
    training finds has a line each, `STAGE: KIND key=value …`: every reading and every action, and the verdict
    on a budget when it changes.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._gauge = EtaEstimator(clock)
        self._written = float("-inf")
        self._facts: set[str] = set()
        self._verdicts: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(name=name, stages=stages):
                self._line(f"{name}: " + ", ".join(f"{stage.stage} ({stage.action})" for stage in stages))
            case StageStarted(stage=stage, continues=continues):
                self._gauge = EtaEstimator(self._clock)
                self._written, self._facts, self._verdicts = float("-inf"), set(), {}
                self._line(f"{stage}: {'continues' if continues else 'starts'}")
            case Said(stage=stage, text=text):
                for line in text.splitlines():
                    self._line(f"{stage}: {line}")
            case Advanced():
                self._advance(event)
            case Noted():
                self._note(event)
            case StageEnded(stage=stage, outcome=outcome, seconds=seconds, verdict=verdict):
                self._line(f"{stage}: {outcome} after {duration(seconds)}")
                if verdict:
                    self._line(f"{stage}: {unmet(verdict)}")
            case RunEnded(outcome=outcome, seconds=seconds):
                self._line(f"{outcome} after {duration(seconds)}")

    def _advance(self, event: Advanced) -> None:
        self._gauge.update(event)
        news = event.facts.keys() - self._facts
        self._facts = set(event.facts)
        due = self._clock() - self._written >= SECONDS_BETWEEN_LINES
        if due or news or event.done == event.total:
            self._written = self._clock()
            self._line(f"{event.stage}: {self._progress(event)}")

    def _note(self, event: Noted) -> None:
        if event.kind == "verdict":
            for gate in event.facts["gates"]:
                if self._verdicts.get(gate["budget"]) != gate["verdict"]:
                    self._verdicts[gate["budget"]] = gate["verdict"]
                    self._line(f"{event.stage}: verdict {fields({'step': event.facts['step']} | gate)}")
        else:
            found = {key: value for key, value in event.facts.items() if key != "said"}
            self._line(f"{event.stage}: {event.kind} {fields(found)}")

    def _progress(self, event: Advanced) -> str:
        parts = [f"{event.done:,}/{event.total:,} {event.unit}"]
        parts += [fact(name, value) for name, value in event.facts.items()]
        left = self._gauge.seconds_left
        if left and left >= 1:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        stamp = datetime.now().strftime("%H:%M:%S")
        print(f"{stamp} {escape_line(text)}", file=self._stream, flush=True)
