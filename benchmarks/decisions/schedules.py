"""Schedules over three texts that are learnt one after the other, with and without replay.

*infinite*: cool down, stay, anneal; later texts go on from before the anneal, at the constant rate. *cosine*:
fall with every text. *wsd*: stay, decay; later texts go on from before the decay. *constant*: stay. The
peaks are the same, but that of *constant* is the constant rate of *infinite*. Every training begins with a
fresh optimizer, and therefore warms up to its first rate. Replay is general text and the texts that were
learnt before, the same share of each.

Of every text some documents are held out beforehand, other ones for each seed; all of them are read before
the first training and after the last.

*optimizer-state* compares what *infinite* can do with the optimizer where a training goes on: begin a fresh
one, or carry on the state from before the anneal. All else is the same.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from decisions.arms import Failed, Figures, compared, figures, run, with_mean
from decisions.sweeps import Work, seeds_of

RECIPE = Path(__file__).parent / "schedules.yaml"
STAGES = ("first", "second", "third")
MEAN = "mean of the three"
PEAK, STEADY, FLOOR = "3e-4", "1.65e-4", "3e-5"
WARMUP, FALL = 0.1, 0.2
"""Shares of a training in which the rate rises at first, and falls at the end where it is constant before."""

HELD_OUT, PASSAGE = 8_000, 800
"""Characters of each text that are held out, in pieces of so many."""

READ = 48_000
"""Tokens that a run only reads: four texts at both ends of two trainings, fewer at those of the other."""


class Plan(NamedTuple):
    """The size of a training of one text. replay: shares of replay; they are whole rows of a batch."""

    tokens: int
    batch: int
    replay: tuple[str, ...]


PLANS = {"full": Plan(24_576, 8, ("0", "0.25")), "short": Plan(10_240, 8, ("0.25",))}

_BEFORE_FALL = "{checkpoint: pre-anneal, data: again}"


def arms(study: str, at: int) -> dict[str, list[str]]:
    """Return the overrides of the training of one text, by arm; the first is the one to compare with.

    Args:
        at: Number of the text, from 0.
    """
    return optimizer_states(at) if study == "optimizer-state" else schedules(at)


def optimizer_states(at: int) -> dict[str, list[str]]:
    """Return the overrides of *infinite* with a fresh optimizer, and with one that is carried on."""
    stage = f"learn-{STAGES[at]}"
    fresh = [*schedules(at)["infinite"], f"{stage}.checkpoint.keep_optimizer=true"]
    carried = [f"{stage}.start={_BEFORE_FALL[:-1]}, optimizer: true}}"] if at else []
    return {"fresh": fresh, "carried": [*fresh, *carried]}


def schedules(at: int) -> dict[str, list[str]]:
    """Return the overrides of the training of one text, by schedule."""
    stage = f"learn-{STAGES[at]}"
    infinite = "continues: true" if at else f"peak: {PEAK}"
    own = {
        "cosine": f"kind: rewarm-cosine, peak: {PEAK}, floor: {FLOOR}",
        "infinite": f"kind: infinite, {infinite}, constant: {STEADY}, floor: {FLOOR}, anneal_share: {FALL}",
        "wsd": f"kind: wsd, peak: {PEAK}, decay_share: {FALL}, min_ratio: 0.1",
        "constant": f"kind: constant, peak: {STEADY}",
    }
    found = {kind: [f"{stage}.schedule={{{words}, warmup: {WARMUP}}}"] for kind, words in own.items()}
    if at:
        for kind in ("infinite", "wsd"):
            found[kind].append(f"{stage}.start={_BEFORE_FALL}")
    return found


def work(options: argparse.Namespace, seeds: int) -> list[Work]:
    """Return the work of the study."""
    plan = PLANS[options.plan]
    runs = seeds * len(arms(options.study, 0)) * len(shares_of(options))
    return [Work(runs, len(STAGES) * plan.tokens, READ, around=80.0)]


def studied(options: argparse.Namespace) -> dict[str, Any]:
    """Run all schedules over the texts in the order of --domain; return what they end at."""
    if len(options.domain) != len(STAGES):
        raise SystemExit(f"{options.study}: give {len(STAGES)} texts, each as --domain NAME=FILE")
    plan, found = PLANS[options.plan], {}
    label = f"{options.study}-{options.plan}"
    for seed in seeds_of(options):
        texts = held_out(options, seed)
        for share in shares_of(options):
            for kind in arms(options.study, 0):
                arm = f"{kind}, replay {float(share):g}"
                words = [*places(options, texts), *settings(options.study, plan, kind, share), f"seed={seed}"]
                name = f"{label}-{kind.replace(' ', '-')}-r{float(share):g}-s{seed}"
                found.setdefault(arm, {})
                with suppress(Failed):
                    found[arm][seed] = figures(run(options, RECIPE, words, name).folder)
    reference = next(iter(arms(options.study, 0)))
    return table(found, reference, [name for name, _ in options.domain], shares_of(options))


def shares_of(options: argparse.Namespace) -> Sequence[str]:
    """Return the shares of replay."""
    return options.shares or PLANS[options.plan].replay


def table(
    found: Mapping[str, Mapping[int, Figures]], reference: str, names: Sequence[str], shares: Sequence[str]
) -> dict[str, Any]:
    """Return the arms, each compared with the reference of its share of replay, and over all texts."""
    texts, rows = [*names, "general"], {}
    for share in shares:
        own = {arm: seeds for arm, seeds in found.items() if arm.endswith(f"replay {float(share):g}")}
        own = {
            arm: {s: with_mean(each, names, MEAN) for s, each in seeds.items()} for arm, seeds in own.items()
        }
        rows |= compared(own, f"{reference}, replay {float(share):g}", [*texts, MEAN])
    return {"order": list(names), "arms": rows}


def settings(study: str, plan: Plan, kind: str, share: str) -> list[str]:
    """Return the overrides of all three trainings."""
    found = []
    for at, stage in enumerate(STAGES):
        sizes = {"tokens": plan.tokens, "batch_sequences": plan.batch, "micro_batch_sequences": plan.batch}
        found += [f"learn-{stage}.{key}={value}" for key, value in (sizes | {"replay": share}).items()]
        found += arms(study, at)[kind]
    return found


def places(options: argparse.Namespace, texts: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Return the overrides that name all files: of each training the texts before it are replayed."""
    names, found = [name for name, _ in options.domain], []
    read = {name: {"sources": [{"path": str(texts[name]["heldout"])}]} for name in names}
    for at, stage in enumerate(STAGES):
        replayed = {"general": options.replay.absolute()} | {
            name: texts[name]["train"] for name in names[:at]
        }
        parts = [
            {"name": name, "weight": 1, "sources": [{"path": str(file)}]} for name, file in replayed.items()
        ]
        found.append(f"{stage}.domain.0.path={texts[names[at]]['train']}")
        replay = {"mixture": parts} if at else parts[0]["sources"]
        found.append(f"{stage}.replay={json.dumps(replay)}")
        found.append(f"{stage}.general.0.path={texts['general']['heldout']}")
        if stage in (STAGES[0], STAGES[-1]):
            found.append(f"learn-{stage}.monitor.texts={json.dumps(read)}")
    return found


def held_out(options: argparse.Namespace, seed: int) -> dict[str, dict[str, Path]]:
    """Divide every text into what trains and what is held out; return the files by text and use."""
    folder = options.runs / "schedules-texts"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, file in [*options.domain, ("general", options.general)]:
        documents = [
            json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines() if line
        ]
        random.Random(seed).shuffle(documents)
        pieces: list[str] = []
        while documents and sum(map(len, pieces)) < HELD_OUT:
            pieces.append(documents.pop()[:PASSAGE])
        found[name] = {
            use: write(folder / f"{name}-s{seed}-{use}.jsonl", texts)
            for use, texts in (("train", documents), ("heldout", pieces))
        }
    return found


def write(path: Path, texts: Sequence[str]) -> Path:
    """Write texts as JSON lines; return the file."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if not path.exists() or path.read_text(encoding="utf-8") != lines:  # a new time would be no new content
        path.write_text(lines, encoding="utf-8")
    return path
