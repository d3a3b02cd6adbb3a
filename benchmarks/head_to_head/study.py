"""Run all contenders of a domain at equal time, one after the other, and keep what was measured."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from decisions.arms import Failed
from decisions.sweeps import seeds_of

from head_to_head.contenders import OURS, Arm, Ran, arms_of, run
from head_to_head.pace import TOLERANCE, Pace, TooShort, off
from head_to_head.reading import read_model
from head_to_head.texts import Texts, divide

CALIBRATION_STEPS = 4
ATTEMPTS = 2
CALIBRATION_SECONDS, READING_SECONDS, POINTS = 120.0, 40.0, 3
"""About what a calibration takes, and a reading of one model; and the points of one of our trainings."""

Row = dict[str, Any]
SAME = (
    *("minutes", "length", "rows", "at_once", "threads", "heldout", "probe_tokens", "window", "start_token"),
    *("override", "suite"),
)


def setting(options: argparse.Namespace, domain: Path) -> dict[str, Any]:
    """Return what runs must share to stand in one table."""
    files = {"domain": domain, "general": options.general, "replay": options.replay, "recipe": options.recipe}
    hashes = {key: sha256(file.read_bytes()).hexdigest() for key, file in files.items() if file}
    return {"model": options.model, "files": hashes} | {name: getattr(options, name) for name in SAME}


def folder_of(options: argparse.Namespace, name: str, domain: Path) -> Path:
    """Return the folder for a domain's runs of one setting; runs of another setting are kept apart."""
    digest = sha256(json.dumps(setting(options, domain), sort_keys=True).encode()).hexdigest()
    return Path(options.runs / "head-to-head" / f"{name}-{digest[:12]}")


def to_do(options: argparse.Namespace) -> tuple[int, float]:
    """Return the number of runs that are left, and about how many hours they take."""
    arms, left, seconds = arms_of(options), 0, 0.0
    for name, file in options.domain:
        folder = folder_of(options, name, file)
        missing = []
        for number, seed in enumerate(seeds_of(options)):
            own = arms if number == 0 else chosen(arms, first_rows(options, folder))
            missing += [arm for arm in own if not _row_file(folder, arm, seed).exists()]
        left += len(missing)
        seconds += len({arm.kind for arm in missing}) * CALIBRATION_SECONDS
        points = sum(POINTS if arm.kind == OURS else 1 for arm in missing)
        seconds += len(missing) * 60 * options.minutes + points * READING_SECONDS
    return left, seconds / 3_600


def contest(options: argparse.Namespace, base: Path, name: str, domain: Path) -> list[Row]:
    """Run what is left of a domain; return the rows of all runs.

    The first seed tries all rates, the others the best one of each peer and all of ours. Contenders take
    turns within a seed, in the other order with every second seed: what else the machine does meets all of
    them. A contender that fails is left out, and the same command tries it again.
    """
    folder = folder_of(options, name, domain)
    own = {"suite": [suite.format(domain=name) for suite in options.suite]}
    options = argparse.Namespace(**vars(options) | own)
    rows: list[Row] = []
    paces: dict[str, Pace] = {}
    for number, seed in enumerate(seeds_of(options)):
        texts = divide(domain, options.general, options.heldout, seed, folder / f"texts-s{seed}")
        arms = arms_of(options) if number == 0 else chosen(arms_of(options), rows)
        for arm in arms if number % 2 == 0 else reversed(arms):
            file = _row_file(folder, arm, seed)
            if not file.exists():
                try:
                    row = measured(Entry(options, base, texts, arm, seed, folder / "run"), paces)
                except Failed as failed:
                    print(failed, file=sys.stderr)
                    continue
                part = file.with_suffix(".part")
                part.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
                part.rename(file)
                shutil.rmtree(folder / "run")
            rows.append(json.loads(file.read_text(encoding="utf-8")))
    return rows


def chosen(arms: Sequence[Arm], first: Sequence[Row]) -> list[Arm]:
    """Return all arms of ours, and of each peer the one that learnt most of the domain with the first seed.

    Args:
        first: Rows of the first seed, perhaps of others after them. A peer without one has its first arm.
    """
    learnt: dict[str, float] = defaultdict(lambda: math.inf)
    for row in first:
        if row["arm"] not in learnt:
            learnt[row["arm"]] = min(each["changes"]["domain"] for each in row["points"].values())
    best: dict[str, Arm] = {}
    for arm in arms:
        own = best.setdefault(arm.kind, arm)
        if learnt[arm.label] < learnt[own.label]:
            best[arm.kind] = arm
    return [arm for arm in arms if arm.kind == OURS or best[arm.kind] == arm]


def first_rows(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Return the rows that there are of the first seed."""
    files = (_row_file(folder, arm, seeds_of(options)[0]) for arm in arms_of(options))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


class Entry(NamedTuple):
    """A contender with a seed, and what it works with."""

    options: argparse.Namespace
    base: Path
    texts: Texts
    arm: Arm
    seed: int
    folder: Path

    def run(self, steps: int) -> Ran:
        """Train for a number of steps."""
        return run(self.options, self.base, self.texts, self.arm, self.seed, steps, self.folder)

    def read(self, name: str, model: Path) -> Row:
        """Return what is measured of the model of a point."""
        return read_model(self.options, self.base, model, self.texts, self.seed, self.folder / f"read-{name}")


def measured(entry: Entry, paces: dict[str, Pace]) -> Row:
    """Run a contender at equal time, and read its models."""
    ran, attempts = timed(entry, paces)
    points = {
        name: {"seconds": seconds, **entry.read(name, model)} for name, (model, seconds) in ran.points.items()
    }
    return {
        "arm": entry.arm.label,
        "kind": entry.arm.kind,
        "rate": entry.arm.rate,
        "seed": entry.seed,
        "attempts": attempts,
        "points": points,
    }


def timed(entry: Entry, paces: dict[str, Pace]) -> tuple[Ran, list[dict[str, float]]]:
    """Run a contender so that it ends in time, once more if it did not; return the run and its attempts.

    Args:
        paces: By kind of contender the pace of its last run; a new one is measured by a short run.
    """
    minutes, arm = entry.options.minutes, entry.arm
    wanted = 60 * minutes
    if arm.kind not in paces:
        short = entry.run(CALIBRATION_STEPS)
        paces[arm.kind] = Pace.of(short.seconds, short.steps)
    attempts: list[dict[str, float]] = []
    while True:
        try:
            steps = paces[arm.kind].steps(wanted)
        except TooShort as short_of:
            raise SystemExit(f"--minutes {minutes:g}, {arm.label}: {short_of}") from None
        ran = entry.run(steps)
        paces[arm.kind] = Pace.of(ran.seconds, ran.steps)
        attempts.append({"steps": steps, "seconds": ran.seconds, "off": off(ran.seconds, wanted)})
        if abs(attempts[-1]["off"]) <= TOLERANCE or len(attempts) == ATTEMPTS:
            return ran, attempts


def _row_file(folder: Path, arm: Arm, seed: int) -> Path:
    return folder / f"{arm.slug}-s{seed}.json"
