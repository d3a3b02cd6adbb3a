"""Settings decided by measurement: sweeps of short trainings of SmolLM2, with three seeds and intervals.

    python benchmarks/decisions.py replay --domain us_code=FILE --domain italian=FILE \\
        --replay FILE --general FILE
    python benchmarks/decisions.py rewarming --domain us_code=FILE --replay FILE --general FILE

replay: shares of replay, for each --domain. rewarming: peaks and warm-ups of the rate, and a model of the
same shape with random weights that learns the same text (from scratch).

Each is one or two `cpt sweep` of `benchmarks/decisions/replay.yaml`, whose runs and pages are in --runs. A
command that was stopped goes on where it was. Before it begins it says how long it will take, at --rate
training tokens per second (SmolLM2-135M has 250 to 450 of them on two cores): hours with `--plan full`, less
than an hour for each domain with `--plan short`. `--dry-run` only says it.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import record

RECIPE = Path(__file__).parent / "decisions" / "replay.yaml"
PEAK, WARMUP, REPLAY = "pretrain.schedule.peak", "pretrain.schedule.warmup", "pretrain.replay"


class Plan(NamedTuple):
    """The levels of one sweep, and the size of its trainings.

    Attributes:
        levels: Values of each setting, as `--vary` takes them.
        tokens: Tokens of a training.
        batch: Sequences of a batch: a share of replay is whole sequences of it.
    """

    levels: dict[str, str]
    tokens: int
    batch: int

    def runs(self, seeds: int) -> int:
        """Return the number of runs."""
        return seeds * math.prod(len(values.split(",")) for values in self.levels.values())


PLANS = {
    "full": {
        "replay": Plan({REPLAY: "0,0.01,0.05,0.1,0.25,0.5"}, 153_600, 100),
        "rewarming": Plan({PEAK: "3e-5,1e-4,3e-4,1e-3", WARMUP: "0,0.05,0.2"}, 40_960, 20),
        "scratch": Plan({PEAK: "3e-4,1e-3"}, 40_960, 20),
    },
    "short": {
        "replay": Plan({REPLAY: "0,0.05,0.1,0.25,0.5"}, 20_480, 20),
        "rewarming": Plan({PEAK: "1e-4,3e-4", WARMUP: "0,0.2"}, 20_480, 20),
        "scratch": Plan({PEAK: "3e-4,1e-3"}, 20_480, 20),
    },
}
EVALUATED, AROUND = 33_000, 40.0
"""Tokens that a run only reads, for a third of a training token's time, and its other seconds."""

SOME_FAILED = 1
"""Exit code of a sweep in which some runs have no result; the others are recorded."""


def seconds(plan: Plan, seeds: int, rate: float) -> float:
    """Return about how long a sweep takes, at a rate of training tokens per second."""
    return plan.runs(seeds) * ((plan.tokens + EVALUATED / 3) / rate + AROUND)


def seeds_of(options: argparse.Namespace) -> list[int]:
    return [int(seed) for seed in options.seeds.split(",")]


def command(options: argparse.Namespace, plan: Plan, name: str, domain: Path, *settings: str) -> list[str]:
    """Return the command of a sweep."""
    sources = {"domain": domain, "replay": options.replay, "general": options.general}
    words = [f"corpus.{role}.0.path={file.absolute()}" for role, file in sources.items()]
    words += [f"pretrain.tokens={plan.tokens}", f"pretrain.batch_sequences={plan.batch}"]
    words += [*options.override, *settings]
    varied = chain.from_iterable(("--vary", f"{key}={values}") for key, values in plan.levels.items())
    start = [sys.executable, "-m", "cpt", "sweep", str(RECIPE), *words, *varied]
    seeds = ",".join(map(str, seeds_of(options)))
    start += ["--seeds", seeds if "," in seeds else f"{seeds},", "--limit", "general <= +0.01"]
    return [*start, "--name", name, "--runs", str(options.runs), "--json"]


def sweep(words: list[str], runs: Path) -> dict[str, Any]:
    """Run a sweep, or the rest of one; return its facts with the levels that configurations end at."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            told, _ = process.communicate()
        except KeyboardInterrupt:
            raise SystemExit(process.wait()) from None  # its runs save what they have
    if process.returncode not in (0, SOME_FAILED) or not told:
        raise SystemExit(process.returncode or 1)
    found: dict[str, Any] = json.loads(told)
    for row in found["configurations"]:
        row["after"] = levels_after(row["runs"], runs)
    return found


def levels_after(names: list[str], runs: Path) -> dict[str, Any]:
    """Return bits per byte of each text after training: the mean over seeds, its interval, and each seed's.

    Models with other starts can be compared by these alone.
    """
    from cpt.recipe.journal import find_run
    from cpt.recipe.reported_runs import run_facts
    from cpt.sweep.effects import mean_over_seeds

    found: dict[str, list[float]] = {}
    for name in names:
        for text, probe in run_facts(find_run(runs, name)).probes.items():
            if probe.after is not None:
                found.setdefault(text, []).append(probe.after)
    return {text: mean_over_seeds(values)._asdict() for text, values in found.items()}


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

    sources = {"domain": options.general, "replay": options.replay, "general": options.general}
    words = [f"corpus.{role}.0.path={file.absolute()}" for role, file in sources.items()]
    return str(load(RECIPE, [*words, *options.override]).base)


def studied(options: argparse.Namespace) -> dict[str, Any]:
    """Run all sweeps of a study, and return their facts by name."""
    plans, found = PLANS[options.plan], {}
    for name, file in options.domain:
        label = f"{options.sweep}-{options.plan}-{name}"
        found[name] = sweep(command(options, plans[options.sweep], label, file), options.runs)
        if options.sweep == "rewarming":
            base = random_base(base_of(options), options.runs / "random-base")
            words = command(options, plans["scratch"], f"scratch-{options.plan}-{name}", file, f"base={base}")
            found[f"{name}, from scratch"] = sweep(words, options.runs)
    return found


def domain(word: str) -> tuple[str, Path]:
    """Parse NAME=FILE."""
    name, separator, file = word.partition("=")
    if not separator or not name or not file:
        raise argparse.ArgumentTypeError(f"{word!r}: write NAME=FILE")
    return name, Path(file)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sweep", choices=("replay", "rewarming"))
    parser.add_argument("--domain", type=domain, required=True, action="append", metavar="NAME=FILE")
    parser.add_argument("--replay", type=Path, required=True, metavar="FILE")
    parser.add_argument("--general", type=Path, required=True, metavar="FILE")
    parser.add_argument("--plan", choices=PLANS, default="short")
    parser.add_argument("--seeds", default="17,18,19", metavar="N,N,N")
    parser.add_argument("--rate", type=float, default=300.0, metavar="N", help="training tokens per second")
    parser.add_argument("--dry-run", action="store_true", help="say how long it would take")
    parser.add_argument("--name", help="name of the result")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    options.runs = options.runs.absolute()
    kinds = ["rewarming", "scratch"] if options.sweep == "rewarming" else ["replay"]
    plans, seeds = [PLANS[options.plan][kind] for kind in kinds], len(seeds_of(options))
    runs = len(options.domain) * sum(plan.runs(seeds) for plan in plans)
    hours = len(options.domain) * sum(seconds(plan, seeds, options.rate) for plan in plans) / 3_600
    print(f"{runs} runs, about {hours:.1f} hours from the beginning", file=sys.stderr)
    if not options.dry_run:
        found = studied(options)
        print(record.write(f"decision_{options.name or options.sweep}", found))


if __name__ == "__main__":
    main()
