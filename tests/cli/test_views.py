"""The two views of a running recipe, and the summary at its end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cpt.cli.report import print_summary
from cpt.cli.views.log import LogView
from cpt.cli.views.metric_lines import key_values, reading_lines
from cpt.cli.views.tty import TtyView
from cpt.recipe.events import (
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

START: list[Event] = [
    RunStarted(
        "medical", (PlannedStage("corpus", "cached"), PlannedStage("pretrain", "run", "", "9 tokens"))
    ),
    StageStarted("pretrain", continues=True),
]


def plain(updates: list[tuple[float, Event]]) -> list[str]:
    """Lines written for events that arrive at given seconds, without their times of day."""
    now = 0.0
    stream = io.StringIO()
    view = LogView(stream, clock=lambda: now)
    for now, event in updates:  # noqa: B007 - the clock reads it
        view(event)
    return [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]


def advanced(done: int, **facts: float) -> StageAdvanced:
    return StageAdvanced("pretrain", done, 100, "steps", facts)


def test_plain_lines_are_written_at_most_every_ten_seconds() -> None:
    lines = plain([(float(second), advanced(second + 1, loss=2.0)) for second in range(25)])
    assert [line.split(",")[0] for line in lines] == [
        "pretrain: 1/100 steps",
        "pretrain: 11/100 steps",
        "pretrain: 21/100 steps",
    ]
    assert lines[1] == "pretrain: 11/100 steps, loss 2.000, 1:29 left"


def test_plain_writes_every_probe_and_the_end_at_once() -> None:
    lines = plain(
        [
            (0, advanced(1, loss=2.0)),
            (1, advanced(2, loss=2.0, domain=0.91)),
            (2, advanced(3, loss=2.0)),
            (3, advanced(4, loss=2.0, domain=0.90)),
            (4, advanced(100, loss=2.0)),
        ]
    )
    assert [line.split("/")[0] for line in lines] == [f"pretrain: {step}" for step in (1, 2, 4, 100)]
    assert "domain 0.910" in lines[1]


def test_plain_tells_the_story() -> None:
    ended = StageEnded("pretrain", "finished", 65, gate="too much", verdict="broken")
    events = [*START, StageMessage("pretrain", "two\nlines"), ended, RunEnded("finished", 66)]
    assert plain([(0, event) for event in events]) == [
        "medical: corpus (cached), pretrain (run)",
        "pretrain: continues",
        "pretrain: two",
        "pretrain: lines",
        "pretrain: finished after 1:05",
        "pretrain: a limit is broken",
        "finished after 1:06",
    ]


def shown(view: TtyView) -> str:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(view)
    return console.export_text()


def test_the_live_view_shows_stages_progress_facts_and_messages() -> None:
    view = TtyView(Console(file=io.StringIO(), force_terminal=True))
    for event in START:
        view(event)
    view(advanced(1, loss=2.5, domain=0.91))
    view(advanced(30, loss=2.1, tokens_per_second=612.4))
    for number_ in range(5):
        view(StageMessage("pretrain", f"message {number_}"))
    text = shown(view)
    view(RunEnded("finished", 3))
    assert "medical" in text
    assert "corpus" in text
    assert "cached" in text
    assert "30/100 steps" in text
    assert "loss 2.100" in text
    assert "domain 0.910" in text
    assert "612 tokens/s" in text
    assert "message 4" in text
    assert "message 1" not in text


def reading(probe: str, rise: float | None, **more: Any) -> TrainingEvent:
    row = {"step": 40, "tokens": 40_960, "probe": probe, "kind": "text", "unit": "bits per byte"}
    row |= {"value": 0.912, "standard_error": 0.01, "rise": rise, "rise_error": 0.003, "detail": None}
    return TrainingEvent("pretrain", "reading", row | more)


def judged(verdict: str, said: str = "general <= +0.02 is so") -> TrainingEvent:
    gate = {"limit": "general <= +0.02", "probe": "general", "verdict": verdict, "value": 0.018}
    return TrainingEvent("pretrain", "verdict", {"step": 40, "said": said, "gates": [gate]})


ACTION = TrainingEvent(
    "pretrain",
    "action",
    {"step": 40, "limit": "general <= +0.02", "from": 0.125, "to": 0.25, "said": "replay is raised"},
)


def test_plain_has_a_line_for_every_reading_and_action_and_for_verdicts_that_change() -> None:
    events = [reading("general", 0.018), judged("held"), judged("held"), ACTION, judged("broken")]
    assert plain([(0, event) for event in events]) == [
        'pretrain: reading step=40 tokens=40960 probe=general kind=text unit="bits per byte" value=0.912 '
        "standard_error=0.01 rise=0.018 rise_error=0.003 detail=null",
        'pretrain: verdict step=40 limit="general <= +0.02" probe=general verdict=held value=0.018',
        'pretrain: action step=40 limit="general <= +0.02" from=0.125 to=0.25',
        'pretrain: verdict step=40 limit="general <= +0.02" probe=general verdict=broken value=0.018',
    ]


def test_fields_are_one_line_that_a_program_can_take_apart() -> None:
    facts = {"why": 'it "rose"\nby 1', "none": None, "tiny": 1.5e-7, "word": "a-b", "empty": "", "list": [1]}
    assert key_values(facts) == r'why="it \"rose\"\nby 1" none=null tiny=1.5e-07 word=a-b empty=""'


def test_the_live_view_shows_the_verdict_and_each_probe_with_its_rise_and_limit() -> None:
    view = TtyView(Console(file=io.StringIO(), force_terminal=True))
    found = [
        reading("domain", -0.25),
        reading("general", 0.018),
        reading("piqa", -0.02, kind="task", unit="accuracy", value=0.61, rise_error=None),
        reading("drift", None, kind="drift", unit="nats per token", value=None),
    ]
    for event in [*START, *found, judged("at risk", "general <= +0.02 is at risk: it rose"), ACTION]:
        view(event)
    view(advanced(30, loss=2.1, domain=0.9))
    lines = [" ".join(line.split()) for line in shown(view).splitlines()]
    view(RunEnded("finished", 3))
    assert lines[3:] == [
        "loss 2.100",
        "general <= +0.02 is at risk: it rose",
        "domain 0.912 bits/byte -0.2500 ± 0.0059",
        "general 0.912 bits/byte +0.0180 ± 0.0059 <= +0.02 at risk",
        "piqa 0.610 accuracy -2.0 points",
        "drift ? nats/token",
        "step 40: replay is raised",
    ]


@pytest.mark.parametrize(
    ("event", "mark", "note"),
    [
        (StageEnded("pretrain", "finished", 65), "✓", "loss 2.100"),
        (StageEnded("pretrain", "failed", 65), "✗", "failed"),
        (StageEnded("pretrain", "interrupted", 65), "■", "interrupted"),
        (StageEnded("pretrain", "finished", 65, gate="x", verdict="broken"), "!", "a limit is broken"),
        (
            StageEnded("pretrain", "finished", 65, gate="x", verdict="not shown"),
            "?",
            "a limit is not shown to be held",
        ),
    ],
)
def test_the_live_view_shows_how_a_stage_ended(event: Event, mark: str, note: str) -> None:
    view = TtyView(Console(file=io.StringIO(), force_terminal=True))
    for each in [*START, advanced(30, loss=2.1), event, RunEnded("finished", 66)]:
        view(each)
    line = next(line for line in shown(view).splitlines() if "pretrain" in line)
    assert mark in line
    assert note in line
    assert "1:05" in line


def test_a_summary_has_the_suites_averages() -> None:
    average = {"a": 0.25, "b": 0.375, "difference": 0.125, "verdict": "better"}
    shown = io.StringIO()
    console = Console(file=shown, width=100)
    print_summary(console, {"suites": {"averages": {"medical": average}}}, Path("report.html"))
    [line] = [line for line in shown.getvalue().splitlines() if "medical" in line]
    assert line.split() == ["medical", "0.2500", "0.3750", "+0.1250", "better"]
    print_summary(console, {"suites": None}, Path("report.html"))
    assert shown.getvalue().count("suite ") == 1


def test_a_summary_has_the_recall_of_facts() -> None:
    found = {"before": {"value": 0.25}, "after": {"value": 0.375}, "difference": {"value": 0.125}}
    shown = io.StringIO()
    console = Console(file=shown, width=100)
    print_summary(console, {"recall": {"untrained": found}}, Path("report.html"))
    heading, line = shown.getvalue().splitlines()[:2]
    assert heading.split() == ["recall", "of", "facts", "before", "after", "change"]
    assert line.split() == ["untrained", "0.2500", "0.3750", "+0.1250"]
    print_summary(console, {"recall": {}}, Path("report.html"))
    assert shown.getvalue().count("recall") == 1


def test_a_change_without_an_interval_is_said_to_have_none() -> None:
    console = Console(width=120, file=io.StringIO())
    known = {"before": 1.1, "after": 0.8, "difference": {"value": -0.3, "low": -0.4, "high": -0.2}}
    probes = {"domain": known, "general": known | {"difference": {"value": -0.3, "low": None, "high": None}}}
    print_summary(console, {"probes": probes}, Path("report.html"))
    domain, general = console.file.getvalue().splitlines()[1:3]
    assert "no interval" not in domain
    assert "-0.3000, no interval" in general


def test_a_summary_tells_that_a_gate_ended_the_training() -> None:
    console = Console(width=120, file=io.StringIO())
    ended = {"step": 8, "result_step": 4, "action": "stop", "why": "general rose by 0.05"}
    print_summary(console, {"training": {"ended": ended}}, Path("report.html"))
    line = console.file.getvalue().splitlines()[0]
    assert line.startswith("Training was ended early, at step 8: general rose by 0.05.")
    assert "the model of step 4" in line


def test_ends_in_mid_sentence_are_shown_with_their_multiple_of_the_start() -> None:
    row = {"probe": "early-end", "kind": "early-end", "unit": "probability"}
    rows = [row | {"value": 6e-6, "rise": 4e-6}, row | {"value": 2e-6, "rise": 2e-6}]
    [line, first] = reading_lines(rows, [])
    assert line.plain == "early-end  6.0e-06 probability  x3"
    assert first.plain == "early-end  2.0e-06 probability"
