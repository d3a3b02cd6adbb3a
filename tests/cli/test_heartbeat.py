"""A line while work goes on in silence."""

from __future__ import annotations

import io
import threading
from typing import Any

from cpt.cli.heartbeat import SECONDS_OF_SILENCE, heartbeat, show_waiting
from cpt.cli.views.log import LogView
from cpt.recipe.events import RunEnded, StageAdvanced, StageEnded, StageStarted


def test_the_function_is_called_until_the_work_ends() -> None:
    called, twice = [0], threading.Event()

    def beat() -> None:
        called[0] += 1
        if called[0] == 2:
            twice.set()

    with heartbeat(beat, seconds=0.001):
        assert twice.wait(60)
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_a_command_says_what_it_waits_for(monkeypatch: Any) -> None:
    said = threading.Event()

    class Console:
        lines: list[str] = []  # noqa: RUF012

        def print(self, text: Any, **options: Any) -> None:
            self.lines.append(str(text))
            said.set()

    monkeypatch.setattr("cpt.cli.heartbeat.err", Console)
    with show_waiting("estimating pretrain", seconds=0.001):
        assert said.wait(60)
    assert Console.lines[0].startswith("estimating pretrain: at work for ")


def test_a_silent_stage_is_named_after_ten_seconds_and_no_sooner() -> None:
    now, stream = [0.0], io.StringIO()
    view = LogView(stream, clock=lambda: now[0])

    def at(seconds: float, event: Any = None) -> list[str]:
        """Return the lines, without times of day, that an event or a tick writes."""
        now[0] = seconds
        before = len(stream.getvalue())
        view.tick() if event is None else view(event)
        return [line.split(" ", 1)[1] for line in stream.getvalue()[before:].splitlines()]

    assert at(9) == []
    assert at(SECONDS_OF_SILENCE) == ["plan: at work for 10 s"]
    assert at(11, StageStarted("corpus", continues=False)) == ["corpus: starts"]
    assert at(20) == []
    assert at(21) == ["corpus: at work for 10 s"]
    assert at(30) == []
    assert at(31, StageAdvanced("corpus", 5, 10, "token"))
    assert at(40) == []
    assert at(41) == ["corpus: 5/10 token"]
    assert at(41.5, StageAdvanced("corpus", 6, 10, "token")) == []  # was just told
    at(42, StageEnded("corpus", "finished", 31.0))
    assert at(80) == []
    at(81, RunEnded("finished", 81.0))
    assert at(200) == []
