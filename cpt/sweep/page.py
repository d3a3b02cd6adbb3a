"""Render a sweep as one self-contained HTML page: no requests, light and dark."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from markupsafe import Markup

from cpt.formatting import points, signed
from cpt.report.schema import Interval
from cpt.report.templates import environment
from cpt.sweep import charts
from cpt.sweep.measures import more_is_better
from cpt.sweep.result import SweepResult
from cpt.sweep.words import value_in_words


def render(found: SweepResult) -> str:
    """Render the page. Strings from data are escaped; only our own charts are inlined unescaped."""
    return (
        environment()
        .get_template("sweep.html")
        .render(
            sweep=found,
            charts=_draw(found),
            labels=labels(found.factors),
            value_in_words=value_in_words,
            change=change_in_words,
            bounds=bounds_in_words,
            command=_command(found),
            ended=sum(len(row.runs) + len(row.failed) for row in found.configurations),
        )
    )


def _draw(found: SweepResult) -> dict[str, dict[str, Markup]]:
    """Draw charts by section and title; charts without content are left out."""
    drawn: dict[str, dict[str, str | None]] = {
        "trade-off": {"Every configuration": charts.trade_off(found)},
        "effects": {},
        "interactions": {},
    }
    for effects in found.effects:
        for measure in found.measures[:2]:
            chart = (
                charts.range_chart(found, effects.key, measure)
                if effects.unit
                else charts.effects_chart(effects, measure)
            )
            drawn["effects"][f"{effects.key}: {measure}"] = chart
    for each in found.interactions:
        drawn["interactions"][f"{each.a} and {each.b}: {each.measure}"] = charts.interaction_chart(each)
    return {
        section: {title: Markup(svg) for title, svg in each.items() if svg} for section, each in drawn.items()
    }


def labels(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest name of each key: its last part, or the whole key if two have the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def change_in_words(measure: str, value: float) -> str:
    """Return a change: bits per byte with four decimals, shares of right answers in points."""
    return points(value) if more_is_better(measure) else signed(value, 4)


def bounds_in_words(measure: str, found: Interval) -> str:
    """Return the interval of a change; empty if there is none."""
    if found.low is None or found.high is None:
        return ""
    return f"{change_in_words(measure, found.low)} to {change_in_words(measure, found.high)}"


def with_bounds(measure: str, found: Interval | None) -> str:
    """Return a change with its interval, as far as there are any."""
    if found is None:
        return ""
    bounds = bounds_in_words(measure, found)
    return change_in_words(measure, found.value) + (f" ({bounds})" if bounds else "")


def _command(found: SweepResult) -> str:
    if found.recommendation is None:
        return ""
    return shlex.join(["cpt", "run", found.recipe, *found.recommendation.overrides])
