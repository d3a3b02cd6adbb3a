"""Run sweeps of `cpt sweep`, and say how long runs take before they begin."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

SOME_FAILED = 1
"""Exit code of a sweep in which some runs have no result; the others are recorded."""


class Work(NamedTuple):
    """The work of some runs.

    Attributes:
        runs: Number of runs.
        trained: Tokens that each trains on.
        read: Tokens that each only reads, for a third of a training token's time.
        around: Seconds of each in which it neither trains nor reads.
    """

    runs: int
    trained: float
    read: float
    around: float = 40.0

    def seconds(self, rate: float) -> float:
        """Return about how long the runs take, at a rate of training tokens per second."""
        return self.runs * ((self.trained + self.read / 3) / rate + self.around)


def hours(work: Sequence[Work], rate: float) -> float:
    """Return about how many hours some work takes."""
    return sum(each.seconds(rate) for each in work) / 3_600


def combinations(levels: Mapping[str, str]) -> int:
    """Return the number of combinations of levels, as `--vary` takes them."""
    from cpt.sweep.factors import parse_factors

    factors = parse_factors([f"{key}={values}" for key, values in levels.items()], "grid")
    return math.prod(len(factor.levels) for factor in factors)


def seeds_of(options: argparse.Namespace) -> list[int]:
    """Return the seeds of a study."""
    return [int(seed) for seed in options.seeds.split(",")]


def texts(options: argparse.Namespace, domain: Path) -> list[str]:
    """Return the overrides that name the texts of a corpus."""
    sources = {"domain": domain, "replay": options.replay, "general": options.general}
    return [f"corpus.{role}.0.path={file.absolute()}" for role, file in sources.items()]


def command(
    options: argparse.Namespace, recipe: Path, words: Sequence[str], name: str, *more: str
) -> list[str]:
    """Return the command of a sweep with all seeds.

    Args:
        words: Overrides that all runs share.
        more: Options of the sweep, such as `--vary` with its levels.
    """
    seeds = ",".join(map(str, seeds_of(options)))
    start = [sys.executable, "-m", "cpt", "sweep", str(recipe), *words, *options.override, *more]
    start += ["--seeds", seeds if "," in seeds else f"{seeds},"]
    return [*start, "--name", name, "--runs", str(options.runs), "--jobs", str(options.jobs), "--json"]


def varied(levels: Mapping[str, str]) -> list[str]:
    """Return the options of a sweep that vary settings."""
    return list(chain.from_iterable(("--vary", f"{key}={values}") for key, values in levels.items()))


def sweep(words: Sequence[str], runs: Path) -> dict[str, Any]:
    """Run a sweep, or the rest of one; return its facts with the levels that configurations end at."""
    found: dict[str, Any] = json.loads(said_by(words, allowed=(0, SOME_FAILED)))
    for row in found["configurations"]:
        row["after"] = levels_after(row["runs"], runs)
    return found


class Terminated(KeyboardInterrupt):
    """The signal SIGTERM."""


def terminate(*_: object) -> None:
    """Handle SIGTERM."""
    raise Terminated


@contextmanager
def stopped_together(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Wait for a process to save its work where this one is stopped."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if isinstance(stop, Terminated):  # Ctrl-C has reached it already
            process.terminate()
        raise SystemExit(process.wait()) from None


def said_by(words: Sequence[str], allowed: Sequence[int] = (0,)) -> str:
    """Run a command that is stopped with this one; return what it prints."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    with stopped_together(process):
        told, _ = process.communicate()
    if process.returncode not in allowed or not told:
        raise SystemExit(process.returncode or 1)
    return told


def levels_after(names: Sequence[str], runs: Path) -> dict[str, Any]:
    """Return bits per byte of each text after training: the mean over seeds, its interval, and each seed's.

    Models with other starts can be compared by these alone.
    """
    from cpt.recipe.journal import find_run
    from cpt.recipe.reported_runs import run_facts
    from cpt.seeds import mean_over_seeds

    found: dict[str, list[float]] = {}
    for name in names:
        for text, probe in run_facts(find_run(runs, name)).probes.items():
            if probe.after is not None:
                found.setdefault(text, []).append(probe.after)
    return {text: mean_over_seeds(values)._asdict() for text, values in found.items()}
