"""Price trials in seconds: by the estimator, corrected by what finished runs took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
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
    seen, around = set[str](), list[float]()
    for trial in done:
        inside, shares = 0.0, False
        for name, record in find_run(runs, trial.run).finished().items():
            if record.fingerprint in seen:
                shares = True
                continue
            seen.add(record.fingerprint)
            inside += record.seconds
            if estimate := estimated.get(trial.number, {}).get(name):
                pairs.setdefault(name, []).append((record.seconds, estimate))
            fixed = _fixed_tokens(record.stage, record.config.get("tokens"))
            plain.setdefault(name, []).append(record.seconds / fixed)
        if not shares:  # a run that shares a stage may have waited for the one that made it
            around.append(max(0.0, trial.seconds - inside))
    every = [pair for each in pairs.values() for pair in each]
    return Times(
        estimated=estimated,
        measured={name: math.fsum(each) / len(each) for name, each in plain.items()},
        ratios={name: _ratio(each) for name, each in pairs.items()},
        ratio=_ratio(every) if every else unmeasured,
        around=median(around) if around else 0.0,
    )


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(took for took, _ in pairs) / math.fsum(estimate for _, estimate in pairs)


class Work(NamedTuple):
    """The stages that a trial makes.

    Attributes:
        number: Number of its configuration.
        stages: Each stage, and the seconds that a killed attempt has spent on it.
    """

    number: int
    stages: tuple[tuple[Entry, float], ...]

    @property
    def making(self) -> frozenset[str]:
        """Return the fingerprints of the stages."""
        return frozenset(entry.fingerprint for entry, _ in self.stages)

    def seconds(self, times: Times) -> float:
        """Return the seconds of the trial's process from its start on; unknown stages take none."""
        each = [(times.of(self.number, entry), spent) for entry, spent in self.stages]
        return times.around + math.fsum(max(0.0, takes - spent) for takes, spent in each if takes is not None)

    def unknown(self, times: Times) -> frozenset[str]:
        """Return the names of the stages of which nothing is known."""
        names = [entry.step.name for entry, _ in self.stages if times.of(self.number, entry) is None]
        return frozenset(names)


def work_of(trial: Trial, recipe: Recipe, runs: Path, made: frozenset[str] = frozenset()) -> Work:
    """Return the stages that a trial makes: not those that are made already, here or by another run.

    A stage that was killed goes on from its checkpoint: the time until there is spent.

    Args:
        trial: Waiting trial.
        recipe: Its recipe.
        runs: Folder of all runs.
        made: Fingerprints of stages that other runs will have made.
    """
    store, stages = Store(runs.absolute() / trial.run), list[tuple[Entry, float]]()
    for entry in _to_run(recipe, store):
        name, fingerprint = entry.step.name, entry.fingerprint
        if fingerprint not in made:
            kept = store.has_partial(name, fingerprint)
            stages.append((entry, store.elapsed(name, fingerprint) if kept else 0.0))
    return Work(trial.number, tuple(stages))


def _to_run(recipe: Recipe, store: Store) -> Sequence[Entry]:
    try:
        return make_plan(recipe, store).to_run
    except CptError:  # the run tells what is wrong
        return ()
