"""Render the run report as one self-contained HTML page, for finished and for running runs.

The page makes no requests, has a light and a dark palette, and is complete without its script. The live page
of a running run is the report so far, plus the state of the run; its script asks `cpt watch` for updates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from cpt.report import charts, summary_text, tables
from cpt.report.merge_pages import draw_vectors
from cpt.report.schema import Action, Facts, Gate, Training, Vectors
from cpt.report.summary_text import ended_finding, gap_finding, has_gap, monitor_finding, task_finding
from cpt.report.templates import environment, policy

Charts = dict[str, dict[str, Markup]]


class Section(NamedTuple):
    """A section of the page; `key`: its anchor and the name of its template."""

    key: str
    title: str
    shown: bool = True


def render(facts: Facts, template: str = "report.html", *, going: bool = False, **more: object) -> str:
    """Render the page. Strings from data are escaped; only our own charts are inlined unescaped.

    Args:
        facts: Facts of the run.
        template: Template in `templates/`; a template that extends the report may need `more` variables.
        going: True if the run continues, so that missing parts may still come.
        more: Further variables of the template.

    Returns:
        HTML text, identical for identical facts.
    """
    drawn, (shown_gates, shown_actions) = draw(facts), shown_bounds(facts)
    return (
        environment()
        .get_template(template)
        .render(
            facts=facts,
            watched=facts.watched,
            sections=[section for section in sections(facts, drawn) if section.shown],
            headlines=tables.headlines(facts),
            comparisons=tables.change_rows(facts),
            recalled=tables.recall_rows(facts),
            recall_reading=summary_text.recall_reading(facts),
            gates=tables.gate_rows(facts.watched.gates),
            controlled=tables.controlled(facts),
            actions=tables.action_rows(facts),
            shown_gates=shown_gates,
            shown_actions=shown_actions,
            charts=drawn,
            clauses=facts.verdict.split("; "),
            has_gap=has_gap,
            gap_finding=gap_finding,
            task_finding=task_finding,
            ended_finding=ended_finding,
            monitor_finding=monitor_finding,
            reasons=tables.removal_reasons(facts),
            final_words=summary_text.final_words(facts),
            mixture=tables.mixture_rows(facts.training),
            vocabulary=tables.vocabulary_gain(facts.vocabulary),
            readings=tables.zero_shot_rows(facts.hypernetwork) if facts.hypernetwork else [],
            vectors=merged_vectors(facts),
            vectors_finding=summary_text.vectors_finding(found) if (found := merged_vectors(facts)) else "",
            file_name=f"{slug(facts.name)}.yaml",
            lacking=lambda text: "Nothing yet." if going else text,
            **more,
        )
    )


def sections(facts: Facts, drawn: Charts) -> list[Section]:
    """Return the sections in order of importance; sections that most runs have are shown even if empty."""
    watched = facts.watched
    return [
        Section("change", "Before and after"),
        Section("limits", "Limits", bool(watched.gates or watched.actions or drawn["control"])),
        Section("gap", "Stability gap"),
        Section("path", "Domain against general", bool(drawn["path"])),
        Section("accuracy", "Tasks in training", bool(watched.tasks)),
        Section("samples", "Text before and after", bool(watched.samples)),
        Section("inside", "Inside the model", bool(drawn["inside"])),
        Section("training", "Loss and learning rate"),
        Section("data", "What it was trained on"),
        Section("vocabulary", "Vocabulary"),
        Section("zero_shot", "Tokenizers by the hypernetwork", facts.hypernetwork is not None),
        Section("vectors", "Task vectors", bool(merged_vectors(facts))),
        Section("recall", "Recall of the domain's facts", bool(facts.recall)),
        Section("tasks", "Benchmark tasks"),
        Section("suites", "Suites of benchmarks"),
        Section("against", "Other models", bool(facts.against)),
        Section("time", "Time and throughput"),
        Section("recipe", "Recipe"),
        Section("versions", "Versions and fingerprints"),
        Section("reproduce", "Reproduce"),
    ]


def draw(facts: Facts) -> Charts:
    """Draw charts by section and title; charts without content are left out."""
    training, watched = facts.training, facts.watched
    gates, actions = bounded = shown_bounds(facts)
    vectors = merged_vectors(facts)
    drawn: dict[str, Mapping[str, str | None]] = {
        "levels": {"Bits per byte": charts.bits_before_after(facts.probes)},
        "control": {
            "Replay share": charts.replay_share(watched.control, actions),
            "Factor of the learning rate": charts.rate_factor(watched.control, actions),
        },
        "gap": {
            name: charts.stability_gap(name, probe, summary_text.final_name(facts, probe), *bounded)
            for name, probe in facts.probes.items()
        },
        "path": {
            "Domain gain against general rise": charts.domain_against_general(
                facts.probes, gates, facts.merge
            )
        },
        "accuracy": {name: charts.task_curve(name, task, *bounded) for name, task in watched.tasks.items()},
        "inside": {
            "Relative update by layer": charts.layer_updates(watched.layers) if watched.layers else None,
            "Bottom layers against top layers": charts.bottom_top(watched.layers) if watched.layers else None,
            "Drift from the base": charts.drift(watched.drift, gates),
            "Ends in mid-sentence": charts.early_end(watched.early_end),
        },
        "training": {
            "Training loss": charts.training_loss(training) if training else None,
            "Learning rate": charts.learning_rate(training) if training else None,
            **{f"Part of the loss: {name}": svg for name, svg in loss_parts(training).items()},
        },
        "tokens": {
            "Tokens by source": charts.tokens_over_time(watched.sources)
            if watched.sources
            else charts.tokens_by_source(facts.tokens),
            **{
                f"Tokens by part of {source}": charts.tokens_by_part(
                    source, {part: counts.tokens for part, counts in row.parts.items()}
                )
                for source, row in facts.ledger.items()
            },
        },
        "selection": {
            "Documents by score": charts.selection_scores(facts.selection) if facts.selection else None
        },
        "vocabulary": {"Norms of new tokens": charts.new_token_norms(watched.new_tokens)},
        "zero_shot": {
            f"Bits per byte, {text}": charts.zero_shot(facts.hypernetwork, text)
            for text in facts.hypernetwork.texts
        }
        if facts.hypernetwork
        else {},
        "vectors": draw_vectors(vectors) if vectors else {},
        "tasks": {"Task scores": charts.tasks_before_after(facts.tasks)},
        "seconds": {
            "Time by stage": charts.time_by_stage(facts.seconds),
            "Time by probe": charts.time_by_probe(
                {name: probe.seconds for name, probe in watched.cost.probes.items()} if watched.cost else {}
            ),
        },
    }
    return {
        section: {title: Markup(svg) for title, svg in found.items() if svg}
        for section, found in drawn.items()
    }


def shown_bounds(facts: Facts) -> tuple[list[Gate], list[Action]]:
    """Return the limits and actions of the training that the curves show."""
    return facts.watched.bounds(facts.training.stage if facts.training else "")


def merged_vectors(facts: Facts) -> Vectors | None:
    """Return the analysis of the merged task vectors, if the merge recorded it."""
    return facts.merge.vectors if facts.merge else None


def loss_parts(training: Training | None) -> dict[str, str]:
    """Draw the terms of a loss that has several, by the term's name."""
    return charts.loss_parts(training) if training else {}


def slug(name: str) -> str:
    """Return a recipe's name as a file name without characters that need quoting in a shell."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "recipe"


SCRIPTS = ("live/script.js", "script.js")
"""Scripts of the live page, in order: the first reads tables before the second changes them."""

CONNECT = "'self'"

POLICY = policy(SCRIPTS, CONNECT)
"""Content-Security-Policy of the live page, also for the header of the server's response."""

STATES = {
    "waiting": "not begun yet",
    "running": "running",
    "killed": "killed; the same command continues where it stopped",
    "interrupted": "interrupted; the same command continues where it stopped",
    "failed": "failed",
    "damaged": "its files are damaged",
    "finished": "finished",
}
"""States of a run, and their words on the page."""


class LiveStage(NamedTuple):
    """A stage of the plan, with its state as in `cpt status`."""

    name: str
    state: str
    seconds: float | None = None


class StageProgress(NamedTuple):
    """Progress of the current stage; unknown figures are None."""

    stage: str
    done: int
    total: int
    unit: str
    seconds_left: float | None = None
    tokens_per_second: float | None = None

    @property
    def share(self) -> float:
        """Return the finished share of the stage, of 1."""
        return self.done / self.total if self.total > 0 else 0.0


class LiveState(NamedTuple):
    """State of a run.

    version: text that changes whenever anything on the page does.
    state: key of `STATES`.
    verdict: verdicts on the limits in one sentence; empty without limits.
    problem: reason why the run failed, or why no report can be made.
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
        """Return the title of the window."""
        what = f"{self.advance.share:.0%} of {self.advance.stage}" if self.advance else self.state
        return f"{what} · {self.name}"

    def steps_of(self, stage: str) -> int:
        """Return the number of steps of a training; 0 if unknown."""
        return self.advance.total if self.advance and self.advance.stage == stage else 0


def render_live(facts: Facts | None, live: LiveState) -> str:
    """Render the live page; without facts (the run has not begun) only the state."""
    shared = {"live": live, "words": STATES[live.state], "scripts": SCRIPTS, "connect": CONNECT}
    if facts is None:
        return environment().get_template("live/waiting.html").render(shared)
    return render(facts, "live/page.html", going=live.state != "finished", **shared)
