"""Write comparisons as text: CSV for programs, Markdown for a model card, cells for a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evals.comparing.comparison import (
    AverageComparison,
    Comparison,
    Findings,
    GroupComparison,
    NoSignal,
    ScoreComparison,
    TaskComparison,
)
from evals.comparing.retention import Retention
from evals.measures import COMPARED

HEADINGS = ("task", "metric", "items", "A", "B", "difference", "interval", "p", "detectable", "verdict")
"""Headings of `cells`. `p` is the corrected p-value, `detectable` the minimum detectable effect."""

RETENTION_HEADINGS = ("domain", "gain", "elsewhere", "retention", "interval", "verdict")
"""Headings of `retention_cells`, in points."""

NO_SIGNAL_HEADINGS = ("task", "metric", "items", "A", "B", "guessing")
"""Headings of `no_signal_cells`."""

Row = TaskComparison | GroupComparison | AverageComparison

AVERAGE = "macro average"
GROUP = "mean of the group"
UNKNOWN = "-"

_CORRECTIONS = {
    "holm": "Holm's correction",
    "bh": "Benjamini and Hochberg's correction",
}
_TEXTS = {"task", "metric", "verdict", "domain"}


def number(value: float | None, *, signed: bool = False) -> str:
    """Format a score, with three digits after the point where it is a share."""
    if value is None:
        return UNKNOWN
    digits = 3 if abs(value) < 10 else 1
    return f"{value:{'+' if signed else ''}.{digits}f}"


def with_error(value: float, stderr: float | None) -> str:
    """Format a score and its standard error."""
    return number(value) if stderr is None else f"{number(value)} ± {number(stderr)}"


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of a suite's table, under `HEADINGS`."""
    if isinstance(row, TaskComparison):
        what = row.task, row.metric + ("" if row.higher_is_better else " ↓"), f"{row.n:,}"
    elif isinstance(row, GroupComparison):
        what = f"{row.group}, {GROUP}", "", f"{row.tasks:,} tasks"
    else:
        what = AVERAGE, "", f"{row.tasks:,} of {row.of:,} tasks"
    return (
        *what,
        with_error(row.a, row.a_stderr),
        with_error(row.b, row.b_stderr),
        number(row.difference, signed=True),
        _interval(row.interval),
        _p_value(row.p_adjusted),
        number(row.minimum_detectable_effect),
        row.verdict,
    )


def retention_cells(found: Retention) -> tuple[str, ...]:
    """Return a row of the retention table, under `RETENTION_HEADINGS`."""
    points = (found.gain.points, found.elsewhere.points, found.points)
    low_high = UNKNOWN if found.interval is None else " to ".join(f"{limit:+.1f}" for limit in found.interval)
    return (found.domain, *(f"{each:+.1f}" for each in points), low_high, found.verdict)


def no_signal_cells(row: NoSignal) -> tuple[str, ...]:
    """Return a row of the table of tasks without a signal, under `NO_SIGNAL_HEADINGS`."""
    scores = with_error(row.a, row.a_stderr), with_error(row.b, row.b_stderr)
    return row.task, row.metric, f"{row.n:,}", *scores, number(row.guessing or 0.0)


def by_suite(findings: Findings) -> Iterator[tuple[str, list[Row]]]:
    """Yield suites with their rows: the macro average, then every group before its tasks, and other tasks."""
    averages = {average.suite: average for average in findings.averages}
    groups = {(group.suite, group.group): group for group in findings.groups}
    for suite in dict.fromkeys(task.suite for task in findings.tasks):
        rows: list[Row] = [averages[suite]] if suite in averages else []
        tasks = [task for task in findings.tasks if task.suite == suite]
        for group in dict.fromkeys(task.group for task in tasks):
            rows += [groups[suite, group]] if (suite, group) in groups else []
            rows += [task for task in tasks if task.group == group]
        yield suite, rows


def no_signal_by_suite(findings: Findings) -> dict[str, list[NoSignal]]:
    """Return the tasks without a signal, by suite."""
    suites = dict.fromkeys(row.suite for row in findings.no_signal)
    return {suite: [row for row in findings.no_signal if row.suite == suite] for suite in suites}


NO_SIGNAL = (
    "Neither model is above guessing (the mean of both by about two standard errors, or one model by four; "
    "tasks of a group with one metric together): not averaged, not tested."
)
"""Heading of the tasks without a signal."""


def explanation(comparison: Comparison) -> str:
    """Return the explanation that a reader of the table needs."""
    confidence, correction = comparison.confidence, comparison.correction
    corrected = (
        ", not corrected for their number"
        if correction == "none"
        else f", after {_CORRECTIONS[correction]} among groups and tasks outside groups, among tasks inside "
        "groups, and among suites, not counting those whose few differing items could show nothing"
    )
    return (
        f"Differences are B minus A on the same items, with {100 * confidence:g}% intervals; "
        "± is a standard error. "
        f"Verdicts follow the p-values at {100 * (1 - confidence):g}%{corrected}; "
        '"no change" is a difference inside the noise. '
        "An interval stands for its task alone and may leave out zero where the corrected verdict does not. "
        f"Detectable is the smallest true difference found with a power of {100 * comparison.power:g}%."
    )


def to_csv(comparison: Comparison) -> str:
    """Return every task, group and average as CSV in full precision; unknown values are empty."""
    out = io.StringIO()
    rows = []
    for metric, findings in {"": comparison, **comparison.measures}.items():
        rows += [_record(row, metric) for _, rows_of in by_suite(findings) for row in rows_of]
        rows += [_record_without_verdict(row) for row in findings.no_signal]
    writer = csv.DictWriter(out, fieldnames=_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_markdown(comparison: Comparison, scores: Sequence[Retention] = ()) -> str:
    """Return a section for a model card."""
    parts = [
        f"A: {_plain(comparison.a)}, B: {_plain(comparison.b)}. {explanation(comparison)}",
        *(f"Note: {_plain(note)}" for note in comparison.notes),
    ]
    for suite, rows in by_suite(comparison):
        parts += [f"### {_plain(suite)}", _markdown(HEADINGS, map(cells, rows))]
    parts += _markdown_without_signal(comparison)
    for measure, findings in comparison.measures.items():
        parts.append(_plain(COMPARED[measure]))
        for suite, rows in by_suite(findings):
            parts += [f"### {_plain(f'{suite} by {measure}')}", _markdown(HEADINGS, map(cells, rows))]
        parts += _markdown_without_signal(findings, f" by {measure}")
    if scores:
        parts += [f"### Retention ({_plain(scores[0].general)})"]
        parts += [_markdown(RETENTION_HEADINGS, map(retention_cells, scores))]
    if comparison.not_compared:
        not_compared = [
            f"- {_plain(f'{left.suite} {left.task}: {left.why}')}" for left in comparison.not_compared
        ]
        parts += ["Not compared:", "\n".join(not_compared)]
    return "\n\n".join(parts) + "\n"


def _markdown_without_signal(findings: Findings, how: str = "") -> Iterator[str]:
    for suite, silent in no_signal_by_suite(findings).items():
        yield f"### {_plain(suite + how)}: no signal"
        yield NO_SIGNAL
        yield _markdown(NO_SIGNAL_HEADINGS, map(no_signal_cells, silent))


_SCORES = [name for name in ScoreComparison.model_fields if name not in ("suite", "interval")]
_COLUMNS = ["suite", "task", "group", "metric", "n", *_SCORES, "low", "high"]


def _record(row: Row, metric: str) -> dict[str, Any]:
    """Return a row of the CSV.

    Args:
        metric: Metric that averages are of; empty if it differs from task to task.
    """
    what: dict[str, Any] = {"task": AVERAGE, "metric": metric}
    if isinstance(row, TaskComparison):
        what = {"task": row.task, "group": row.group, "metric": row.metric, "n": row.n}
    elif isinstance(row, GroupComparison):
        what = {"task": GROUP, "group": row.group, "metric": metric}
    low, high = row.interval or (None, None)
    scores = {name: getattr(row, name) for name in _SCORES}
    return {"suite": row.suite, **what, **scores, "low": low, "high": high}


def _record_without_verdict(row: NoSignal) -> dict[str, Any]:
    return {**row.model_dump(exclude={"guessing"}), "verdict": "no signal"}


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rules = ["---" if heading in _TEXTS else "---:" for heading in headings]
    lines = [headings, rules, *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Escape a text for Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))


def _interval(limits: tuple[float, float] | None) -> str:
    return UNKNOWN if limits is None else " to ".join(number(limit, signed=True) for limit in limits)


def _p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
