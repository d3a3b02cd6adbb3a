"""Render a comparison as one self-contained HTML page: no requests, light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from cpt import formatting
from cpt.corpus.recall import recall_key
from cpt.report.comparison import charts
from cpt.report.comparison.charts import gains, rises
from cpt.report.comparison.figures import (
    P_GOLD,
    change_of,
    recall_changes,
    recall_groups,
    recall_p_gold_changes,
    suite_changes,
    task_changes,
    turned,
)
from cpt.report.comparison.schema import Best, ComparedProbe, Comparison, Pair, RunRow
from cpt.report.comparison.summary_text import listed, recovery
from cpt.report.schema import WORST_FIRST, Interval
from cpt.report.summary_text import has_gap
from cpt.report.templates import environment

STANDING = {True: "on the front", False: "beaten", None: "not compared"}


class Headline(NamedTuple):
    """One of the key figures under the verdict, with its runs."""

    label: str
    figure: str
    runs: Sequence[RunRow]


class Cell(NamedTuple):
    """One run's figure: formatted, sort value, small text below, and standing among the runs."""

    text: str
    value: float | None = None
    small: str = ""
    best: bool = False
    apart: bool = False


class Column(NamedTuple):
    """One figure of all runs, by the run's name."""

    label: str
    unit: str
    cells: Mapping[str, Cell]


def render(comparison: Comparison) -> str:
    """Render the page. Strings from data are escaped; only our own charts are inlined unescaped.

    Returns:
        HTML text, identical for identical facts.
    """
    template = environment().get_template("comparison.html")
    rows = comparison.runs
    return template.render(
        comparison=comparison,
        clauses=comparison.verdict.split("; "),
        headlines=headlines(comparison),
        verdicts=WORST_FIRST[::-1],
        standing=STANDING,
        role=charts.role,
        changes=change_columns(comparison),
        gaps={f"{name} text".capitalize(): gap_columns(comparison, name) for name in followed(rows)},
        limits=list(dict.fromkeys(gate.limit for row in rows for gate in row.gates)),
        costs=cost_columns(comparison),
        recall=recall_lines(comparison),
        scores=score_lines(comparison),
        charts=draw(comparison),
        sources=list(dict.fromkeys(source for row in rows for source in row.tokens)),
        setting_words=setting_words,
        listed=listed,
    )


def draw(comparison: Comparison) -> dict[str, dict[str, Markup]]:
    """Draw charts by section and title; charts without content are left out."""
    rows = comparison.runs
    drawn = {
        "trade-off": {"Domain gain against general rise": charts.trade_off(rows, comparison.front)},
        "gap": dict(_curves(rows)),
        "tokens": {"Tokens trained, by source": charts.tokens_by_source(rows)},
        "recall": dict(_recall_charts(rows)),
        "scores": dict(_score_charts(rows)),
    }
    return {
        section: {title: Markup(svg) for title, svg in found.items() if svg}
        for section, found in drawn.items()
    }


def _curves(rows: Sequence[RunRow]) -> Iterable[tuple[str, str | None]]:
    """Yield charts of probes and tasks during training, with titles."""
    for name in followed(rows):
        curves = [charts.Curve(row.number, row.name, rises(row.probes.get(name))) for row in rows]
        title, axis = f"{name} text".capitalize(), "bits per byte above the start"
        yield title, charts.curve_chart(name, title, axis, curves, lambda rise: formatting.signed(rise, 2))
    for task in dict.fromkeys(name for row in rows for name in row.in_training):
        curves = [charts.Curve(row.number, row.name, gains(row.in_training.get(task))) for row in rows]
        axis = "points above the start"
        yield task, charts.curve_chart(f"task {task}", task, axis, curves, formatting.points)


def _score_charts(rows: Sequence[RunRow]) -> Iterable[tuple[str, str | None]]:
    """Yield charts of changes of tasks and of suites' averages, with titles."""
    numbers = {row.name: row.number for row in rows}
    for title, changes in _scores(rows):
        yield title, _points_chart(title, numbers, changes)


def _recall_charts(rows: Sequence[RunRow]) -> Iterable[tuple[str, str | None]]:
    """Yield charts of changes of the recall groups, by right answers and by p_gold, with titles."""
    numbers = {row.name: row.number for row in rows}
    for group in recall_groups(rows):
        title = f"{group} facts".capitalize()
        yield title, _points_chart(title, numbers, recall_changes(rows, group))
        lines = _lines(numbers, recall_p_gold_changes(rows, group))
        title, axis = f"{title}, p_gold", "change of p_gold, higher is better"
        yield title, charts.intervals(title, title, axis, lines, lambda share: formatting.signed(share, 2))


def _points_chart(title: str, numbers: Mapping[str, int], changes: Mapping[str, Interval]) -> str | None:
    axis, lines = "change in points, higher is better", _lines(numbers, changes)
    return charts.intervals(title, title, axis, lines, lambda share: formatting.signed(100 * share, 0))


def _lines(numbers: Mapping[str, int], changes: Mapping[str, Interval]) -> list[charts.Line]:
    return [charts.Line(numbers[run], run, change) for run, change in changes.items()]


def _scores(rows: Sequence[RunRow]) -> Iterable[tuple[str, dict[str, Interval]]]:
    for suite in dict.fromkeys(name for row in rows if row.suites for name in row.suites.averages):
        yield f"Suite {suite}", suite_changes(rows, suite)
    for task in dict.fromkeys(name for row in rows for name in row.tasks):
        yield task, task_changes(rows, task)


def followed(rows: Sequence[RunRow]) -> list[str]:
    """Return the probes that some run read during training."""
    return list(dict.fromkeys(name for row in rows for name, probe in row.probes.items() if probe.training))


def headlines(comparison: Comparison) -> list[Headline]:
    """Return the best run by each of the most important figures."""
    by_name = {row.name: row for row in comparison.runs}
    asked = (
        ("domain.change", "Most domain gain", formatting.signed),
        ("general.change", "Least general rise", formatting.signed),
        ("general.depth", "Shallowest general gap", formatting.signed),
        ("tokens_per_second", "Fastest training", lambda rate: f"{formatting.count(rate)} tokens/s"),
    )
    return [
        Headline(label, words(best.value), [by_name[name] for name in best.runs])
        for key, label, words in asked
        if (best := comparison.best.get(key)) is not None
    ]


def change_columns(comparison: Comparison) -> list[Column]:
    """Return the change on every held-out text, with its interval and its distance to the best run."""
    columns = []
    for name in dict.fromkeys(name for row in comparison.runs for name in row.probes):
        title, cells = f"{name} text".capitalize(), _cells(comparison, name, f"{name}.change", _change_cell)
        columns.append(Column(title, "bits per byte", cells))
        if behind := _behind_cells(comparison, name):
            columns.append(Column("Behind the best", f"{name} text", behind))
    return columns


def _behind_cells(comparison: Comparison, name: str) -> dict[str, Cell]:
    """Return the difference of each run's change to the lowest one, with its interval."""
    changes = {row.name: row.probes[name].change for row in comparison.runs if name in row.probes}
    apart = [pair for pair in comparison.pairs if pair.probe == name]
    known = {run: change.value for run, change in changes.items() if change and run in _named(apart)}
    if not known:
        return {}
    best = min(known, key=lambda run: known[run])
    found = {best: Cell(formatting.NOTHING)}
    for pair in apart:
        if best in (pair.a, pair.b):
            behind = pair.difference if pair.a == best else turned(pair.difference)
            found[pair.b if pair.a == best else pair.a] = _interval_cell(behind)
    return found


def _named(pairs: Sequence[Pair]) -> set[str]:
    return {run for pair in pairs for run in (pair.a, pair.b)}


def _change_cell(probe: ComparedProbe) -> Cell:
    return Cell(formatting.NOTHING) if probe.change is None else _interval_cell(probe.change)


def _interval_cell(change: Interval) -> Cell:
    small = f"{formatting.signed(change.low)} to {formatting.signed(change.high)}" if change.known else ""
    return Cell(formatting.signed(change.value), change.value, small)


def gap_columns(comparison: Comparison, name: str) -> list[Column]:
    """Return the stability gap of one probe in every run; empty if no run has a gap."""
    if not any(has_gap(row.probes[name]) for row in comparison.runs if name in row.probes):
        return []
    makers: tuple[tuple[str, str, str, Callable[[ComparedProbe], Cell]], ...] = (
        ("Depth", "bits per byte", "depth", _depth_cell),
        ("Trough", "tokens", "", _trough_cell),
        ("Recovery", "tokens", "recovery", _recovery_cell),
        (
            "Area",
            "bits per byte times tokens",
            "area",
            lambda each: Cell(formatting.count(each.area), each.area),
        ),
        ("Left after training", "bits per byte", "permanent", _left_cell),
    )
    return [
        Column(label, unit, _cells(comparison, name, f"{name}.{key}", make, gap=True))
        for label, unit, key, make in makers
    ]


def _depth_cell(probe: ComparedProbe) -> Cell:
    return Cell(formatting.fixed(probe.depth), probe.depth, formatting.margin(probe.depth_error))


def _trough_cell(probe: ComparedProbe) -> Cell:
    if not has_gap(probe) or probe.trough_tokens is None:
        return Cell(formatting.NOTHING)
    return Cell(formatting.compact(probe.trough_tokens), probe.trough_tokens)


def _recovery_cell(probe: ComparedProbe) -> Cell:
    return Cell(recovery(probe).removesuffix(" tokens"), probe.recovery_tokens)


def _left_cell(probe: ComparedProbe) -> Cell:
    if probe.training is None:
        return Cell(formatting.NOTHING)
    left = probe.training.permanent
    return Cell(formatting.signed(left), left, formatting.margin(probe.training.permanent_error))


def _cells(
    comparison: Comparison,
    name: str,
    figure: str,
    make: Callable[[ComparedProbe], Cell],
    *,
    gap: bool = False,
) -> dict[str, Cell]:
    best = _best(comparison.best.get(figure))
    found = {}
    for row in comparison.runs:
        if (probe := row.probes.get(name)) is not None:
            apart = not probe.began_alike if gap else bool(probe.apart)
            found[row.name] = make(probe)._replace(best=row.name in best, apart=apart)
    return found


def _best(best: Best | None) -> Sequence[str]:
    return best.runs if best else ()


def cost_columns(comparison: Comparison) -> list[Column]:
    """Return tokens, time and speed of every run."""
    rows, fastest = comparison.runs, _best(comparison.best.get("tokens_per_second"))

    def speed(row: RunRow) -> Cell:
        rate = row.tokens_per_second
        return Cell(formatting.count(rate), rate, best=row.name in fastest)

    makers: tuple[tuple[str, str, Callable[[RunRow], Cell]], ...] = (
        ("Tokens", "trained", lambda row: Cell(formatting.count(row.trained), row.trained)),
        ("Steps", "", lambda row: Cell(formatting.count(row.steps), row.steps)),
        ("Time", "all stages", lambda row: Cell(formatting.duration_in_words(row.seconds), row.seconds)),
        ("Speed", "tokens per second", speed),
        ("Vocabulary", "tokens", lambda row: Cell(formatting.count(row.vocabulary), row.vocabulary)),
    )
    return [Column(label, unit, {row.name: make(row) for row in rows}) for label, unit, make in makers]


class ScoreLine(NamedTuple):
    """A task, a suite's average or a recall group; `what`: "suite" or the metric."""

    name: str
    what: str
    cells: Mapping[str, Cell]


def score_lines(comparison: Comparison) -> list[ScoreLine]:
    """Return suites' averages with their tasks below, then the recipes' own tasks."""
    rows = comparison.runs
    lines: dict[str, dict[str, Cell]] = {}
    what: dict[str, str] = {}
    for row in rows:
        for name, kind, after, change in _scored(row):
            what.setdefault(name, kind)
            key = f"suite.{name}" if kind == "suite" else f"task.{name}"
            lines.setdefault(name, {})[row.name] = Cell(
                formatting.percent(after),
                change.value,
                _with_range(change, formatting.points),
                best=row.name in _best(comparison.best.get(key)),
                apart=name in row.other_items,
            )
    return [ScoreLine(name, what[name], cells) for name, cells in lines.items()]


def _with_range(change: Interval, words: Callable[[float | None], str]) -> str:
    return words(change.value) + (f" ({words(change.low)} to {words(change.high)})" if change.known else "")


def recall_lines(comparison: Comparison) -> list[ScoreLine]:
    """Return two lines for each group of the recall probe: right answers, and p_gold."""
    found = []
    for group in recall_groups(comparison.runs):
        metric = next(row.recall[group].metric for row in comparison.runs if group in row.recall)
        found.append(ScoreLine(group, metric, _recall_cells(comparison, group)))
        if likelihood := _recall_cells(comparison, group, p_gold=True):
            found.append(ScoreLine(group, P_GOLD, likelihood))
    return found


def _recall_cells(comparison: Comparison, group: str, *, p_gold: bool = False) -> dict[str, Cell]:
    """Return the cells of the runs that were asked about a group."""
    level, change = (
        (formatting.fixed, formatting.signed) if p_gold else (formatting.percent, formatting.points)
    )
    best = _best(comparison.best.get(f"recall.{group}.{P_GOLD}" if p_gold else f"recall.{group}"))
    asked = {row.name: row for row in comparison.runs if group in row.recall}
    figures = {name: row.recall[group].p_gold if p_gold else row.recall[group] for name, row in asked.items()}
    return {
        name: Cell(
            level(figure.after.value),
            figure.difference.value,
            _with_range(figure.difference, change),
            best=name in best,
            apart=recall_key(group) in asked[name].other_items,
        )
        for name, figure in figures.items()
        if figure is not None
    }


def _scored(row: RunRow) -> Iterable[tuple[str, str, float, Interval]]:
    """Yield name, "suite" or metric, final score and change of all tasks and suites of a run."""
    if row.suites is not None:
        for suite, average in row.suites.averages.items():
            yield suite, "suite", average.b, change_of(average)
            for task in row.suites.by_suite.get(suite, ()):
                yield task.task, task.metric, task.b, change_of(task)
    for name, own in row.tasks.items():
        yield name, own.metric, own.after.value, own.difference


def setting_words(value: Any) -> str:
    """Format the value of a setting as a recipe writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False).replace('"', "")
