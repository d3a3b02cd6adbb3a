"""Price trials in seconds: by the estimator, corrected by what finished runs took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import CptError
from cpt.recipe.journal import find_run
from cpt.recipe.plan import Entry, make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store
from cpt.sweep.state import Trial

Estimated = Mapping[int, Mapping[str, float]]
"""Seconds by the estimator: configuration -> stage -> seconds."""


class Times(NamedTuple):
    """Known times of stages, and the time of a run around them.

    Attributes:
        estimated: Estimated seconds; without those of stages that the estimator cannot price.
        measured: Mean seconds of a stage, for configurations that have no estimate of it; of a pretrain stage
            with fixed tokens per token.
        ratios: Measured seconds for an estimated one, by stage.
        ratio: The same over all stages; for stages that no finished run has.
        around: Seconds of a run that no stage takes: to start, to load, to check.
    """

    estimated: Estimated
    measured: Mapping[str, float]
    ratios: Mapping[str, float] = {}
    ratio: float = 1.0
    around: float = 0.0

    def of(self, number: int, entry: Entry) -> float | None:
        """Return the seconds of a stage of a configuration; None if nothing is known of it."""
        stage = entry.step.name
        estimate = self.estimated.get(number, {}).get(stage)
        if estimate is not None:
            return estimate * self.ratios.get(stage, self.ratio)
        took = self.measured.get(stage)
        return None if took is None else took * _tokens(entry)


def _tokens(entry: Entry) -> int:
    return _fixed_tokens(entry.step.kind, getattr(entry.step.located, "tokens", None))


def _fixed_tokens(kind: str, tokens: Any) -> int:
    return tokens if kind == "pretrain" and isinstance(tokens, int) else 1


def times_of(done: Sequence[Trial], estimated: Estimated, runs: Path, unmeasured: float) -> Times:
    """Return the times that estimates and finished trials tell. A shared stage is counted once.

    Args:
        done: Finished trials, in their order.
        estimated: Seconds by the estimator.
        runs: Folder of all runs.
        unmeasured: Ratio to take before a run has ended.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    plain: dict[str, list[float]] = {}
    seen: set[str] = set()
    for trial in done:
        for name, record in find_run(runs, trial.run).finished().items():
            if record.fingerprint in seen:
                continue
            seen.add(record.fingerprint)
            if estimate := estimated.get(trial.number, {}).get(name):
                pairs.setdefault(name, []).append((record.seconds, estimate))
            fixed = _fixed_tokens(record.stage, record.config.get("tokens"))
            plain.setdefault(name, []).append(record.seconds / fixed)
    every = [pair for each in pairs.values() for pair in each]
    return Times(
        estimated=estimated,
        measured={name: math.fsum(each) / len(each) for name, each in plain.items()},
        ratios={name: _ratio(each) for name, each in pairs.items()},
        ratio=_ratio(every) if every else unmeasured,
        # the least: a run that failed at first has the time of its earlier attempts, too
        around=min((seconds_around(runs / each.run, each.seconds) for each in done), default=0.0),
    )


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(took for took, _ in pairs) / math.fsum(estimate for _, estimate in pairs)


def seconds_around(folder: Path, seconds: float) -> float:
    """Return the part of a run's time that no stage took: to start, to load, to check.

    Args:
        folder: Folder of the run.
        seconds: Time of the run's processes.
    """
    records = find_run(folder.parent, folder.name).finished().values()
    return max(0.0, seconds - sum(record.seconds for record in records))


class Price(NamedTuple):
    """The price of some trials.

    Attributes:
        seconds: Time of their processes from here on.
        making: Fingerprints of the stages that they make.
        unknown: Names of stages of which nothing is known, counted as 0.
    """

    seconds: float
    making: frozenset[str]
    unknown: frozenset[str]


def price(
    trials: Sequence[Trial],
    recipes: Mapping[str, Recipe],
    times: Times,
    runs: Path,
    made: frozenset[str] = frozenset(),
) -> Price:
    """Price trials: a stage that several share is counted once, one that is made already not at all.

    The time that a killed run has spent on a stage is subtracted: the run goes on from its checkpoint.

    Args:
        trials: Waiting trials.
        recipes: Recipe of each, by the name of the run.
        times: Known times.
        runs: Folder of all runs.
        made: Fingerprints of stages that other runs will have made.
    """
    seconds, making, unknown = 0.0, set[str](), set[str]()
    for trial in trials:
        store = Store(runs.absolute() / trial.run)
        seconds += times.around
        for entry in _to_run(recipes[trial.run], store):
            if entry.fingerprint in made | making:
                continue
            making.add(entry.fingerprint)
            takes = times.of(trial.number, entry)
            if takes is None:
                unknown.add(entry.step.name)
            else:
                kept = store.has_partial(entry.step.name, entry.fingerprint)
                spent = store.elapsed(entry.step.name, entry.fingerprint) if kept else 0.0
                seconds += max(0.0, takes - spent)
    return Price(seconds, frozenset(making), frozenset(unknown))


def _to_run(recipe: Recipe, store: Store) -> Sequence[Entry]:
    try:
        return make_plan(recipe, store).to_run
    except CptError:  # the run tells what is wrong
        return ()
