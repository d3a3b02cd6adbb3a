"""Put configurations, settings, changes and the recommendation into words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpt.formatting import plural, signed
from cpt.report.schema import Interval
from cpt.seeds import Mean
from cpt.sweep.effects import Choice
from cpt.sweep.factors import Values
from cpt.sweep.state import SweepFile

if TYPE_CHECKING:
    from cpt.sweep.result import Configuration


def in_words(values: Values, factors: Sequence[str]) -> str:
    """Return a configuration in words: "peak 1e-4, replay 0.05"."""
    return ", ".join(f"{key.rpartition('.')[2]} {value_in_words(values[key])}" for key in factors)


def value_in_words(value: Any) -> str:
    """Return a setting as a recipe writes it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def interval(mean: Mean) -> Interval:
    """Return a mean over seeds as an interval of a page."""
    return Interval(value=mean.value, low=mean.low, high=mean.high)


def with_range(found: Interval) -> str:
    """Return a change with its interval, if it has one: "+0.0500 (+0.0400 to +0.0600)"."""
    if found.low is None or found.high is None:
        return signed(found.value, 4)
    return f"{signed(found.value, 4)} ({signed(found.low, 4)} to {signed(found.high, 4)})"


def summary_line(values: Mapping[str, float], measures: Sequence[str]) -> str:
    """Return the first changes of a run in words: "domain +0.1200, general +0.0030"."""
    return ", ".join(f"{name} {signed(values[name], 4)}" for name in measures if name in values)


def sentences(choice: Choice, file: SweepFile, rows: Sequence[Configuration]) -> list[str]:
    """Say which configuration is best, within which limit, and how sure that is."""
    request = file.request
    keys = [factor.key for factor in request.factors]
    by_number = {row.number: row for row in rows}
    best = by_number[choice.number]
    change = best.changes[request.minimize]
    said = [f"Best: {in_words(best.values, keys)}", f"{request.minimize}: {with_range(change)}."]
    if request.limit is not None and request.limit.probe in best.changes:
        rise = with_range(best.changes[request.limit.probe])
        said.append(
            {
                "held": f"{request.limit} is held: {rise}.",
                "not shown": f"{request.limit} holds on average, {rise}, and is not shown: "
                + ("one seed has no interval." if choice.seeds < 2 else "the interval passes it."),
                "broken": f"No configuration holds {request.limit}; this one exceeds it least: {rise}.",
            }.get(choice.held, "")
        )
    if best.broken:
        runs = f"{best.broken} of {plural(len(best.runs), 'run')}"
        said.append(f"A limit of the recipe was broken, or not shown to be held, in {runs}.")
    if choice.seeds < len(request.seeds):
        said.append(f"Only {choice.seeds} of {len(request.seeds)} seeds have a result.")
    if choice.incomplete:
        numbers = ", ".join(f"p{number:02d}" for number in choice.incomplete)
        said.append(f"Not ranked, as some of their runs failed or have not ended: {numbers}.")
    if choice.runner_up is None:
        said.append("There is no other configuration to take.")
        return said
    assert choice.lead is not None, "ranked configurations have the same seeds"
    other = in_words(by_number[choice.runner_up].values, keys)
    if choice.seeds < 2:
        said.append(
            f"One seed: it is {abs(choice.lead.value):.4f} ahead of {other}, and how much of that is chance "
            "is not known: run it with several --seeds."
        )
        return said
    lead = with_range(interval(choice.lead))
    sure = choice.runner_up in choice.ahead
    ahead = "ahead of" if sure else "not shown to be ahead of"
    wins = f"best in {choice.wins} of {plural(choice.seeds, 'seed')}"
    said.append(f"It is {ahead} the next one, {other}, by {lead} on the same seeds; {wins}.")
    if len(choice.others) > 1:
        said.append(_against_all(choice, "" if request.limit is None else " within the limit"))
    return said


def _against_all(choice: Choice, which: str) -> str:
    """Say of which other configurations the best is shown to be ahead."""
    others, open_ = len(choice.others), choice.open
    if not open_:
        return f"It is ahead of each of the {others} others{which}."
    numbers = ", ".join(f"p{number:02d}" for number in sorted(open_))
    if len(open_) == others:
        return f"It is not shown to be ahead of any of the {others} others{which}."
    return f"Of the {others} others{which}, it is not shown to be ahead of {numbers}."
