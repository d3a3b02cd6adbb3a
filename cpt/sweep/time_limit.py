"""Choose the trials that a time allows, from the times of a finished one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cpt.recipe.journal import find_run
from cpt.recipe.plan import Entry, make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store
from cpt.stages.pretrain.config import PretrainConfig
from cpt.sweep.state import Trial


class Times(NamedTuple):
    """The times of a finished run: those of its stages (`stage_seconds`), and that around them."""

    stages: Mapping[str, float]
    around: float = 0.0


def seconds_around(folder: Path, seconds: float) -> float:
    """Return the part of a run's time that no stage took: to start, to load, to check.

    Args:
        seconds: Time of the run's processes.
    """
    records = find_run(folder.parent, folder.name).finished().values()
    return max(0.0, seconds - sum(record.seconds for record in records))


def stage_seconds(folder: Path) -> dict[str, float]:
    """Return the seconds of each finished stage of a run; of a pretrain stage with fixed tokens per token."""
    found = {}
    for name, record in find_run(folder.parent, folder.name).finished().items():
        tokens = record.config.get("tokens")
        fixed = tokens if isinstance(tokens, int) and record.stage == "pretrain" else 1
        found[name] = record.seconds / fixed
    return found


def affordable(
    trials: Sequence[Trial],
    recipes: Mapping[str, Recipe],
    times: Times,
    runs: Path,
    seconds: float,
) -> tuple[set[str], float]:
    """Return the runs that fit in a time: whole configurations, in order, until one does not fit.

    A stage that several runs share is counted once, one that is made already not at all.

    Args:
        trials: Waiting trials, in their order.
        recipes: Recipe of each, by the name of the run.
        times: Times of a finished run.
        runs: Folder of all runs.
        seconds: Time of processes, all together.

    Returns:
        Names of the runs, and the seconds that all trials would take.
    """
    made: set[str] = set()
    kept: set[str] = set()
    spent, full = 0.0, False
    for number in dict.fromkeys(trial.number for trial in trials):
        own = [trial for trial in trials if trial.number == number]
        for trial in own:
            entries = make_plan(recipes[trial.run], Store(runs.absolute() / trial.run)).to_run
            spent += times.around
            spent += sum(_seconds(entry, times.stages) for entry in entries if entry.fingerprint not in made)
            made |= {entry.fingerprint for entry in entries}
        full = full or spent > seconds
        if not full:
            kept |= {trial.run for trial in own}
    return kept, spent


def _seconds(entry: Entry, known: Mapping[str, float]) -> float:
    config = entry.step.located
    tokens = config.tokens if isinstance(config, PretrainConfig) and isinstance(config.tokens, int) else 1
    return known.get(entry.step.name, 0.0) * tokens
