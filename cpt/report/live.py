"""The page of a run that goes on: the run report as far as it is known, and how far the run is."""

from __future__ import annotations

from typing import NamedTuple

from cpt.report.environment import environment
from cpt.report.page import content
from cpt.report.schema import Facts

STATES = {
    "waiting": "waiting for the run to begin",
    "running": "running",
    "killed": "killed: the same command continues where it stopped",
    "interrupted": "interrupted: the same command continues where it stopped",
    "failed": "failed",
    "finished": "finished",
}
"""What the page says of a run's state."""


class LiveStage(NamedTuple):
    """A stage of the plan: waiting, running, killed, finished, cached, failed, …"""

    name: str
    state: str
    seconds: float | None = None


class Advance(NamedTuple):
    """How far the current stage is; `seconds_left` is None where it cannot be told."""

    stage: str
    done: int
    total: int
    unit: str
    seconds_left: float | None = None
    tokens_per_second: float | None = None

    @property
    def share(self) -> float:
        """Of 1."""
        return self.done / self.total if self.total > 0 else 0.0


class Live(NamedTuple):
    """How far a run is.

    version: changes whenever anything on the page does.
    state: a key of `STATES`.
    verdict: how its budgets stand, in one sentence; empty without any.
    problem: why it failed, or why the report cannot be made.
    """

    name: str
    version: str
    state: str
    stages: list[LiveStage] = []
    advance: Advance | None = None
    verdict: str = ""
    problem: str = ""

    @property
    def heading(self) -> str:
        """The window's title."""
        progress = f"{self.advance.share:.0%} of {self.advance.stage}" if self.advance else self.state
        return f"{progress} · {self.name}"


def render_live(facts: Facts | None, live: Live) -> str:
    """The page; without facts (the run has not begun) only its state."""
    shared = {"live": live, "words": STATES[live.state]}
    if facts is None:
        return environment().get_template("live/waiting.html").render(shared)
    return environment().get_template("live/page.html").render(content(facts) | shared)
