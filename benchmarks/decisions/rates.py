"""Compare shares of replay, rates and kinds of schedule: sweeps of `replay.yaml`; one with random weights."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from decisions.sweeps import Work, combinations, command, sweep, texts, varied

RECIPE = Path(__file__).parent / "replay.yaml"
PEAK, WARMUP, REPLAY = "pretrain.schedule.peak", "pretrain.schedule.warmup", "pretrain.replay"
BATCH = "pretrain.batch_sequences"
QUARTERS = ("pretrain.micro_batch_sequences=4", "pretrain.replay=0.25")
"""Replay that is whole sequences of batches of 4 and more, which fit whole in a micro batch."""

KINDS = ",".join(
    f"{{{kind}, warmup: 0.1}}"
    for kind in (
        "kind: rewarm-cosine, peak: 3e-4, floor: 3e-5",
        "kind: linear, peak: 3e-4, floor: 3e-5",
        "kind: wsd, peak: 3e-4, decay_share: 0.2, min_ratio: 0.1",
        "kind: constant, peak: 3e-4",
        "kind: power, peak: 0.0089, a: 2.0, decay_share: 0.2",
        "kind: power, decay_share: 0.2",
        "kind: power, peak: 3e-4, a: 0.069, decay_share: 0.2",
    )
)
"""Schedules with the same warm-up; *power* divided by the width, as published, and as `cpt plan` offers."""

READ = 33_000
"""Tokens that a run of the recipe only reads."""


class Plan(NamedTuple):
    """The levels of one sweep, and the size of its trainings.

    Attributes:
        levels: Values of each setting, as `--vary` takes them.
        tokens: Tokens of a training.
        batch: Sequences of a batch: a share of replay is whole sequences of it.
        settings: Other settings of all runs.
    """

    levels: dict[str, str]
    tokens: int
    batch: int
    settings: tuple[str, ...] = ()

    def work(self, seeds: int) -> Work:
        """Return the work of all runs."""
        return Work(seeds * combinations(self.levels), self.tokens, READ)


PLANS = {
    "full": {
        "replay": Plan({REPLAY: "0,0.01,0.05,0.1,0.25,0.5"}, 153_600, 100),
        "rewarming": Plan({PEAK: "3e-5,1e-4,3e-4,1e-3", WARMUP: "0,0.05,0.2"}, 40_960, 20),
        "scratch": Plan({PEAK: "3e-4,1e-3"}, 40_960, 20),
        "kinds": Plan({"pretrain.schedule": KINDS}, 40_960, 20),
        "batch": Plan({BATCH: "4,16,64", PEAK: "1e-4,3e-4,1e-3"}, 163_840, 16, QUARTERS),
    },
    "short": {
        "replay": Plan({REPLAY: "0,0.05,0.1,0.25,0.5"}, 20_480, 20),
        "rewarming": Plan({PEAK: "1e-4,3e-4", WARMUP: "0,0.2"}, 20_480, 20),
        "scratch": Plan({PEAK: "3e-4,1e-3"}, 20_480, 20),
        "kinds": Plan({"pretrain.schedule": KINDS}, 20_480, 20),
        "batch": Plan({BATCH: "4,16", PEAK: "1e-4,3e-4"}, 20_480, 16, QUARTERS),
    },
}


def work(options: argparse.Namespace, seeds: int) -> list[Work]:
    """Return the work of a study, for all its domains."""
    kinds = ["rewarming", "scratch"] if options.study == "rewarming" else [options.study]
    return [PLANS[options.plan][kind].work(seeds) for _ in options.domain for kind in kinds]


def studied(options: argparse.Namespace) -> dict[str, Any]:
    """Run all sweeps of a study, and return their facts by name."""
    found = {}
    for name, file in options.domain:
        label = f"{options.study}-{options.plan}-{name}"
        found[name] = sweep(request(options, options.study, label, file), options.runs)
        if options.study == "rewarming":
            base = random_base(base_of(options), options.runs / "random-base")
            words = request(options, "scratch", f"scratch-{options.plan}-{name}", file, f"base={base}")
            found[f"{name}, from scratch"] = sweep(words, options.runs)
    return found


def request(options: argparse.Namespace, kind: str, name: str, domain: Path, *settings: str) -> list[str]:
    """Return the command of one sweep of a plan."""
    plan = PLANS[options.plan][kind]
    words = [
        *texts(options, domain),
        f"pretrain.tokens={plan.tokens}",
        *([] if BATCH in plan.levels else [f"{BATCH}={plan.batch}"]),
        *plan.settings,
    ]
    limit = ["--limit", "general <= +0.01"]
    return command(options, RECIPE, words, name, *settings, *varied(plan.levels), *limit)


def random_base(base: str, folder: Path) -> Path:
    """Write a model of the shape and the tokenizer of a base; return its folder.

    Its weights are random, and the same for all seeds of the trainings.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from cpt import references
    from cpt.progress import NullProgress

    if folder.exists():
        return folder
    source, unfinished = (
        references.resolve_model(base, NullProgress()),
        folder.with_name(f"{folder.name}.part"),
    )
    shutil.rmtree(unfinished, ignore_errors=True)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(unfinished)
    for file in source.iterdir():
        if file.suffix in {".json", ".jinja", ".txt"} and not (unfinished / file.name).exists():
            shutil.copyfile(file, unfinished / file.name)
    unfinished.rename(folder)
    return folder


def base_of(options: argparse.Namespace) -> str:
    """Return the reference of the base, which an override may name."""
    from cpt.recipe.load import load

    return str(load(RECIPE, [*texts(options, options.general), *options.override]).base)
