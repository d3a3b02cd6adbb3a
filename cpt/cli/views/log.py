"""Show a run as plain lines with the time, for logs and pipes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from cpt.cli.heartbeat import SECONDS_OF_SILENCE
from cpt.cli.views.metric_lines import key_values, outcome_in_words
from cpt.escaping import escape_line
from cpt.formatting import duration, fact
from cpt.recipe.events import (
    EtaEstimator,
    Event,
    RunEnded,
    RunStarted,
    StageAdvanced,
    StageEnded,
    StageMessage,
    StageStarted,
    TrainingEvent,
)


class LogView:
    """A view that writes a line for every change, and progress at most every ten seconds.

    `tick`, called from another thread, writes a line where a stage has been silent for as long.
    An update with a new metric (a probe's value) is always written. Every reading, every action and every
    changed verdict on a limit is a line `STAGE: KIND key=value …`.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._eta = EtaEstimator(clock)
        self._written = float("-inf")
        self._facts: set[str] = set()
        self._verdicts: dict[str, str] = {}
        self._stage: str | None = "plan"
        self._last: StageAdvanced | None = None
        self._begun = self._spoke = clock()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(name=name, stages=stages):
                self._line(f"{name}: " + ", ".join(f"{stage.stage} ({stage.action})" for stage in stages))
            case StageStarted(stage=stage, continues=continues):
                self._eta = EtaEstimator(self._clock)
                self._stage, self._begun = stage, self._clock()
                self._written, self._facts, self._verdicts = float("-inf"), set(), {}
                self._last = None
                self._line(f"{stage}: {'continues' if continues else 'starts'}")
            case StageMessage(stage=stage, text=text):
                for line in text.splitlines():
                    self._line(f"{stage}: {line}")
            case StageAdvanced():
                self._advance(event)
            case TrainingEvent():
                self._note(event)
            case StageEnded(stage=stage, outcome=outcome, seconds=seconds, verdict=verdict):
                self._stage = None
                self._line(f"{stage}: {outcome} after {duration(seconds)}")
                if verdict:
                    self._line(f"{stage}: {outcome_in_words(verdict)}")
            case RunEnded(outcome=outcome, seconds=seconds):
                self._stage = None
                self._line(f"{outcome} after {duration(seconds)}")

    def tick(self) -> None:
        """Write how far the current stage is, or how long at work, if nothing was written for ten seconds."""
        now, stage, last = self._clock(), self._stage, self._last
        if stage is None or now - self._spoke < SECONDS_OF_SILENCE:
            return
        self._written = now  # so that the next step does not write the same again
        told = self._progress(last) if last is not None else f"at work for {duration(now - self._begun)}"
        self._line(f"{stage}: {told}")

    def _advance(self, event: StageAdvanced) -> None:
        self._eta.update(event)
        self._last = event
        news = event.facts.keys() - self._facts
        self._facts = set(event.facts)
        due = self._clock() - self._written >= SECONDS_OF_SILENCE
        if due or news or event.done == event.total:
            self._written = self._clock()
            self._line(f"{event.stage}: {self._progress(event)}")

    def _note(self, event: TrainingEvent) -> None:
        if event.kind == "verdict":
            for gate in event.facts["gates"]:
                if self._verdicts.get(gate["limit"]) != gate["verdict"]:
                    self._verdicts[gate["limit"]] = gate["verdict"]
                    self._line(f"{event.stage}: verdict {key_values({'step': event.facts['step']} | gate)}")
        else:
            found = {key: value for key, value in event.facts.items() if key != "said"}
            self._line(f"{event.stage}: {event.kind} {key_values(found)}")

    def _progress(self, event: StageAdvanced) -> str:
        parts = [f"{event.done:,}/{event.total:,} {event.unit}"]
        parts += [fact(name, value) for name, value in event.facts.items()]
        left = self._eta.seconds_left
        if left and left >= 1:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        with self._lock:
            self._spoke = self._clock()
            stamp = datetime.now().strftime("%H:%M:%S")
            print(f"{stamp} {escape_line(text)}", file=self._stream, flush=True)
