"""The page of a run that goes on: the run report as far as it is known, and how far the run is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cpt.report.environment import environment, policy
from cpt.report.page import render
from cpt.report.schema import Facts

SCRIPTS = ("live/script.js", "script.js")
"""The first must see tables as they came, before the second changes them."""

CONNECT = "'self'"

POLICY = policy(SCRIPTS, CONNECT)
"""What the page may do; also fit for the header of the answer that brings it."""

STATES = {
    "waiting": "not begun yet",
    "running": "running",
    "killed": "killed; the same command continues where it stopped",
    "interrupted": "interrupted; the same command continues where it stopped",
    "failed": "failed",
    "damaged": "its files are damaged",
    "finished": "finished",
}
"""States of a run, and what the page says of them."""


class LiveStage(NamedTuple):
    """A stage of the plan, with its state as `cpt status` tells it."""

    name: str
    state: str
    seconds: float | None = None


class StageProgress(NamedTuple):
    """How far the current stage is; what cannot be told is None."""

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


class LiveState(NamedTuple):
    """How far a run is.

    version: changes whenever anything on the page does.
    state: a key of `STATES`.
    verdict: how its budgets stand, in one sentence; empty without any.
    problem: why it failed, or why no report can be made of it.
    """

    name: str
    version: str
    state: str
    stages: Sequence[LiveStage] = ()
    advance: StageProgress | None = None
    verdict: str = ""
    problem: str = ""

    @property
    def heading(self) -> str:
        """The window's title."""
        what = f"{self.advance.share:.0%} of {self.advance.stage}" if self.advance else self.state
        return f"{what} · {self.name}"

    def steps_of(self, stage: str) -> int:
        """Steps of a training; 0 if it has not told them."""
        return self.advance.total if self.advance and self.advance.stage == stage else 0


def render_live(facts: Facts | None, live: LiveState) -> str:
    """The page; of a run without facts (it has not begun) only the state."""
    shared = {"live": live, "words": STATES[live.state], "scripts": SCRIPTS, "connect": CONNECT}
    if facts is None:
        return environment().get_template("live/waiting.html").render(shared)
    return render(facts, "live/page.html", going=live.state != "finished", **shared)
