"""Comparisons as text: CSV for programs, Markdown for a model card, cells for a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evals.comparing.comparison import AverageComparison, Compared, Comparison, TaskComparison
from evals.comparing.retention import Retention

HEADINGS = ("task", "metric", "items", "A", "B", "difference", "interval", "p", "visible", "verdict")
"""Of `cells`. The p-value is the corrected one; `visible` is the smallest difference that would be found."""

RETENTION_HEADINGS = ("domain", "gain", "elsewhere", "retention", "interval", "verdict")
"""Of `retention_cells`, in points."""

AVERAGE = "macro average"
UNKNOWN = "-"

_CORRECTIONS = {
    "holm": "Holm's correction",
    "bh": "Benjamini and Hochberg's correction",
    "none": "no correction",
}
_TEXTS = {"task", "metric", "verdict", "domain"}


def number(value: float | None, *, signed: bool = False) -> str:
    """A score, to three digits after the point where it is a share."""
    if value is None:
        return UNKNOWN
    digits = 3 if abs(value) < 10 else 1
    return f"{value:{'+' if signed else ''}.{digits}f}"


def with_error(value: float, stderr: float | None) -> str:
    """A score and its standard error."""
    return number(value) if stderr is None else f"{number(value)} ± {number(stderr)}"


def cells(row: TaskComparison | AverageComparison) -> tuple[str, ...]:
    """A line of the table of a suite, under `HEADINGS`."""
    if isinstance(row, TaskComparison):
        name, metric, items = row.task, row.metric + ("" if row.higher_is_better else " ↓"), f"{row.n:,}"
    else:
        name, metric, items = AVERAGE, "", f"{row.tasks:,} tasks"
    return (
        name,
        metric,
        items,
        with_error(row.a, row.a_stderr),
        with_error(row.b, row.b_stderr),
        number(row.difference, signed=True),
        _interval(row.interval),
        _p_value(row.p_adjusted),
        number(row.visible),
        row.verdict,
    )


def retention_cells(found: Retention) -> tuple[str, ...]:
    """A line of the table of retention scores, under `RETENTION_HEADINGS`."""
    points = (found.gain.points, found.elsewhere.points, found.points)
    low_high = UNKNOWN if found.interval is None else " to ".join(f"{limit:+.1f}" for limit in found.interval)
    return (found.domain, *(f"{each:+.1f}" for each in points), low_high, found.verdict)


def by_suite(comparison: Comparison) -> Iterator[tuple[str, list[TaskComparison | AverageComparison]]]:
    """Suites with their lines, the macro average first."""
    averages = {average.suite: average for average in comparison.averages}
    for suite in dict.fromkeys(task.suite for task in comparison.tasks):
        tasks = [task for task in comparison.tasks if task.suite == suite]
        yield suite, [*([averages[suite]] if suite in averages else []), *tasks]


def explanation(comparison: Comparison) -> str:
    """What a reader must know to read the table."""
    confidence, correction = comparison.confidence, _CORRECTIONS[comparison.correction]
    return (
        f"Differences are B minus A on the same items, with {100 * confidence:g}% intervals; "
        "± is a standard error. "
        f"Verdicts follow the p-values, after {correction} for the number of tasks (of suites), at "
        f'{100 * (1 - confidence):g}%; "no change" is a difference inside the noise. '
        "An interval stands for its task alone and may leave out zero where the corrected verdict does not. "
        f"Visible is the smallest difference that would be found with a power of {100 * comparison.power:g}%."
    )


def to_csv(comparison: Comparison) -> str:
    """Every task and average in full precision; what is unknown is empty."""
    out = io.StringIO()
    rows = [_record(row) for _, rows in by_suite(comparison) for row in rows]
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_markdown(comparison: Comparison, scores: Sequence[Retention] = ()) -> str:
    """A section for a model card."""
    parts = [
        f"A: {_plain(comparison.a)}, B: {_plain(comparison.b)}. {explanation(comparison)}",
        *(f"Note: {_plain(note)}" for note in comparison.notes),
    ]
    for suite, rows in by_suite(comparison):
        parts += [f"### {_plain(suite)}", _markdown(HEADINGS, map(cells, rows))]
    if scores:
        parts += [f"### Retention ({_plain(scores[0].general)})"]
        parts += [_markdown(RETENTION_HEADINGS, map(retention_cells, scores))]
    if comparison.not_compared:
        apart = [f"- {_plain(f'{left.suite} {left.task}: {left.why}')}" for left in comparison.not_compared]
        parts += ["Not compared:", "\n".join(apart)]
    return "\n\n".join(parts) + "\n"


def _record(row: TaskComparison | AverageComparison) -> dict[str, Any]:
    """A line of the CSV."""
    if isinstance(row, TaskComparison):
        what = {"task": row.task, "group": row.group, "metric": row.metric, "n": row.n}
    else:
        what = {"task": AVERAGE, "group": None, "metric": None, "n": None}
    low, high = row.interval or (None, None)
    scores = {name: getattr(row, name) for name in Compared.model_fields if name not in ("suite", "interval")}
    return {"suite": row.suite, **what, **scores, "low": low, "high": high}


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rules = ["---" if heading in _TEXTS else "---:" for heading in headings]
    lines = [headings, rules, *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))


def _interval(limits: tuple[float, float] | None) -> str:
    return UNKNOWN if limits is None else " to ".join(number(limit, signed=True) for limit in limits)


def _p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
