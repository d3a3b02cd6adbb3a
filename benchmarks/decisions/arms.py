"""Run the arms of a study, each with every seed, and compare them on the same seeds."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from decisions.sweeps import seeds_of, stopped_together

RESULTS = (0, 3, 4)
"""Exit codes of `cpt run` that come with a result: done, a limit is broken, a limit is not shown."""


STAGE_FAILED = 1


class Failed(Exception):
    """A run that has no result, such as a training that diverged."""


class Ran(NamedTuple):
    """A process of `cpt run` that has ended with a result.

    Attributes:
        folder: Folder of the run.
        peak: Largest resident size of the process and its children, in bytes.
    """

    folder: Path
    peak: int


class Figures(NamedTuple):
    """Hold what a run measured.

    Attributes:
        before, after: Bits per byte of each text, by name.
        seconds: Time of the steps of all trainings.
        tokens: Tokens of the trainings.
    """

    before: dict[str, float]
    after: dict[str, float]
    seconds: float
    tokens: int


def run(options: argparse.Namespace, recipe: Path, words: Sequence[str], name: str) -> Ran:
    """Run a recipe, or the rest of it, in a process of its own.

    Args:
        words: Overrides, and options of `cpt run`.

    Raises:
        Failed: A stage failed.
        SystemExit: The recipe is wrong, or the run was stopped.
    """
    own = [*words, *options.override, f"name={name}", "--runs", str(options.runs)]
    start = [sys.executable, "-m", "cpt", "run", str(recipe), *own]
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL)
    with stopped_together(process):
        _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == STAGE_FAILED:
        raise Failed(f"{name} failed; what it said is above")
    if code not in RESULTS:
        raise SystemExit(code)
    return Ran(options.runs / name, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def figures(folder: Path) -> Figures:
    """Return what the trainings of a run measured: from before the first to after the last."""
    from cpt.recipe.journal import find_run

    found = find_run(folder.parent, folder.name).finished().values()
    trainings = [record.path("training") for record in found if record.stage == "pretrain"]
    before, after = {}, {}
    seconds, tokens = 0.0, 0
    for training in trainings:
        for row in _lines(training / "probes.jsonl"):
            if row["value"] is None:
                continue
            before.setdefault(row["probe"], row["value"])
            after[row["probe"]] = row["value"]
        last = _lines(training / "steps.jsonl")[-1]
        seconds, tokens = seconds + last["seconds"], tokens + last["tokens"]
    return Figures(before, after, seconds, tokens)


def with_mean(each: Figures, names: Sequence[str], label: str) -> Figures:
    """Return the figures of a run with the mean of some of its texts as one more."""
    levels = [texts | {label: sum(texts[name] for name in names) / len(names)} for texts in each[:2]]
    return each._replace(before=levels[0], after=levels[1])


def step_seconds(folder: Path) -> list[float]:
    """Return the seconds of each step of a run's only training."""
    from cpt.recipe.journal import find_run

    ended = [
        row["seconds"]
        for record in find_run(folder.parent, folder.name).finished().values()
        if record.stage == "pretrain"
        for row in _lines(record.path("training") / "steps.jsonl")
    ]
    return [after - before for before, after in zip([0.0, *ended], ended, strict=False)]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measured(
    options: argparse.Namespace,
    recipe: Path,
    arms: Mapping[str, Sequence[str]],
    label: str,
    shared: Sequence[str] = (),
) -> dict[str, dict[int, Figures]]:
    """Run all arms with all seeds; return arm -> seed -> figures.

    One seed after the other: a study that is stopped has then whole comparisons. A run that fails is left
    out, and the same command tries it again.

    Args:
        arms: Overrides of each arm.
        label: Beginning of the runs' names.
        shared: Overrides of all arms.
    """
    found: dict[str, dict[int, Figures]] = {arm: {} for arm in arms}
    for seed in seeds_of(options):
        for arm, words in arms.items():
            name = f"{label}-{arm.replace(' ', '-')}-s{seed}"
            try:
                ran = run(options, recipe, [*shared, *words, f"seed={seed}"], name)
            except Failed as failed:
                print(failed, file=sys.stderr)
                continue
            found[arm][seed] = figures(ran.folder)
    return found


def compared(
    found: Mapping[str, Mapping[int, Figures]], reference: str, texts: Sequence[str] = ()
) -> dict[str, Any]:
    """Return each arm's figures: means over seeds with intervals, and differences on the same seeds.

    `changes` are from before the training, `after` are levels, in bits per byte; `against` is the change
    minus the reference's, positive where the arm has the larger loss.

    Args:
        reference: Arm that the others are compared with.
        texts: Texts to compare; by default all that every run has measured.
    """
    every = [each for seeds in found.values() for each in seeds.values()]
    if not every:
        raise SystemExit("no run has a result")
    texts = texts or [text for text in every[0].after if all(text in each.after for each in every)]
    return {
        arm: _compared(seeds, found[reference], texts) if seeds else {"seeds": []}
        for arm, seeds in found.items()
    }


def _compared(
    own: Mapping[int, Figures], reference: Mapping[int, Figures], texts: Sequence[str]
) -> dict[str, Any]:
    from cpt.seeds import mean_over_seeds

    def change(each: Figures, text: str) -> float:
        return each.after[text] - each.before[text]

    row: dict[str, Any] = {"changes": {}, "after": {}, "against": {}}
    for text in texts:
        row["changes"][text] = mean_over_seeds([change(each, text) for each in own.values()])._asdict()
        row["after"][text] = mean_over_seeds([each.after[text] for each in own.values()])._asdict()
        pairs = [change(own[seed], text) - change(reference[seed], text) for seed in own if seed in reference]
        if own is not reference and pairs:
            row["against"][text] = mean_over_seeds(pairs)._asdict()
    row["seconds"] = mean_over_seeds([each.seconds for each in own.values()])._asdict()
    row["tokens"] = [each.tokens for each in own.values()]
    row["seeds"] = list(own)
    return row
