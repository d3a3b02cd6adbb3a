"""What gates cost beyond the time budget is said before training."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from cpt.monitor.budget import NEEDED, SMALLEST
from cpt.monitor.gates import Gate
from cpt.monitor.schedule import Regular
from cpt.stages.monitor_config import EarlyEnd, Monitor
from cpt.stages.probing_cost import asked_for, over_budget

GATE = TypeAdapter(Gate)
MORE = GATE.validate_python({"budget": "general <= +0.01", "action": "raise-replay"})
WARN = GATE.validate_python({"budget": "general <= +0.01", "action": "warn"})
SOURCE = {"sources": [{"path": "a.jsonl"}], "tokens": 50}


def test_every_text_is_counted_with_its_tokens() -> None:
    monitor = Monitor.model_validate({"tokens": 300, "texts": {"chat": SOURCE}, "drift": {"tokens": 70}})
    found = {name: tokens for name, tokens, _ in asked_for(monitor, ("domain", "general"))}
    assert found == {"domain": 300, "general": 300, "chat": 50, "drift": 70, "early-end": 150}


@pytest.mark.parametrize(
    ("budget", "gate", "tokens", "said"),
    [(0.05, MORE, 10_000, True), (0.5, MORE, 10_000, False), (0.05, MORE, 100_000, False),
     (0.05, WARN, 10_000, False), (None, MORE, 10_000, False)],
)  # fmt: skip
def test_it_is_said_if_an_acting_gate_needs_more_than_the_budget(
    budget: float | None, gate: Gate, tokens: int, said: bool
) -> None:
    monitor = Monitor(tokens=1000, budget=budget, early_end=None)
    found = over_budget(monitor, [gate], asked_for(monitor, ("domain", "general")), tokens, None)
    assert (found is not None) == said
    if found:
        share = (4 + SMALLEST * NEEDED) * 1000 / (3 * tokens)
        assert f"those that gates need (general), take about {share:.0%}" in found
        assert "more than the budget of 5%" in found


def test_no_more_readings_are_counted_than_are_due() -> None:
    monitor = Monitor(tokens=1000, every=10, early_end=None)
    reads = asked_for(monitor, ("general",))
    few, all_ = (over_budget(monitor, [MORE], reads, 10_000, steps) for steps in (4, 400))
    assert f"{(2 + SMALLEST * 2) / 30:.0%}" in str(few)
    assert f"{(2 + SMALLEST * NEEDED) / 30:.0%}" in str(all_)


def test_ends_in_mid_sentence_are_counted_too() -> None:
    reads = asked_for(Monitor(tokens=1000), ("general",))
    assert [(name, tokens) for name, tokens, _ in reads] == [("general", 1000), ("early-end", 500)]
    few = asked_for(Monitor(tokens=1000, early_end=EarlyEnd(tokens=80, every=7)), ())
    assert few == [("early-end", 80, Regular(7))]
