"""A limit on forgetting, held by replay, and a share of the work for the probes.

    python benchmarks/forgetting_limit.py --domain FILE.jsonl --general FILE.jsonl

The same recipe is run without gates and with one: `general <= +0.01`, `raise-replay`, from no replay at
first. Rows of replay are of --replay, text of the kind that is to be kept, or else the model's own samples.
The gate is to hold the limit and to keep most of the domain's gain.

The time that probes took is also measured from outside: this script sees when lines are added to the run's
logs. From the first readings' lines to the last readings' there are steps, probes and checkpoints only;
without the steps' and the checkpoints' seconds it is what all readings but the first took. The first
readings' own seconds are added to that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL, Part, source
from ruamel.yaml import YAML

LIMIT = 0.01
"""Bits per byte by which general text may rise."""

GATE = {"limit": f"general <= +{LIMIT:g}", "action": "raise-replay"}
FINISHED = (0, 3, 4)
"""Exit codes of a run whose result is kept: its limit is held, broken, or not shown to be either."""

NAME = "forgetting_limit"
STAGE = "learn"
KINDS = ("domain", "general", "replay")
_GLANCE = 0.005
"""Seconds between looks at a log."""


@dataclass
class Growth:
    """How a file grew while its run was on: when it was first seen to have so many bytes."""

    sizes: list[int] = field(default_factory=lambda: [0])
    times: list[float] = field(default_factory=lambda: [0.0])

    def look(self, folder: Path, file: str) -> None:
        for path in folder.glob(f"{STAGE}-*.partial/{file}"):
            try:
                size = path.stat().st_size
            except FileNotFoundError:  # the stage is finished
                continue
            if size > self.sizes[-1]:
                self.sizes.append(size)
                self.times.append(time.perf_counter())

    def when(self, size: int) -> float:
        """Time by which it had so many bytes."""
        return self.times[bisect_left(self.sizes, size)]


def recipe(options: argparse.Namespace, gates: list[Part]) -> dict[str, Any]:
    """Learn the domain from no replay on; the gate may take up to half of the rows."""
    own = {"tokens": options.tokens // 2, "length": min(120, options.length), "batch": 240}
    replay = [source(options.replay)] if options.replay else {"self_generated": own}
    corpus = {
        "domain": [source(options.domain)],
        "general": [source(options.general)],
        "replay": replay,
        "sequence_length": options.length,
        "heldout": options.heldout,
        "start_token": options.start_token,
        "end_token": options.start_token,
    }
    pretrain = {
        "name": STAGE,
        "tokens": options.tokens,
        "batch_sequences": options.rows,
        "micro_batch_sequences": options.micro_rows,
        "replay": 0.0,
        "schedule": {"kind": "rewarm-cosine", "peak": options.peak, "floor": options.peak / 10},
        "monitor": {
            "every": options.every,
            "tokens": options.probe_tokens,
            "probe_share": options.probe_share,
            "weights": None,
            "samples": None,
        },
        "gates": gates,
    }
    stages = [{"corpus": corpus}, {"pretrain": pretrain}]
    return {"name": NAME, "base": options.model, "seed": options.seed, "stages": stages}


def measure(options: argparse.Namespace, gates: list[Part]) -> dict[str, Any]:
    """Run the recipe, with the logs watched from outside; returns its figures."""
    runs = options.runs / NAME
    options.runs.mkdir(parents=True, exist_ok=True)
    path = options.runs / f"{NAME}.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(options, gates), file)
    growth = Growth()
    command = [sys.executable, "-m", "cpt", "run", str(path), "--runs", str(options.runs)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            growth.look(runs, "probes.jsonl")
            time.sleep(_GLANCE)
    if process.returncode not in FINISHED:
        raise SystemExit(process.returncode)
    (folder,) = (found for found in runs.glob(f"{STAGE}-*") if not found.name.endswith(".partial"))
    figures = figures_of(folder, growth)
    shutil.rmtree(folder)
    return figures


def figures_of(folder: Path, growth: Growth) -> dict[str, Any]:
    """What a finished training changed, did and took."""
    training = folder / "training"
    summary = json.loads((training / "summary.json").read_text(encoding="utf-8"))
    actions = (training / "actions.jsonl").read_text(encoding="utf-8").splitlines()
    ends = {name: gap["end"] - gap["before"] for name, gap in summary["stability"].items()}
    outside = probing(training, summary, growth)
    return {
        "rise": ends["general"],
        "rise_error": summary["stability"]["general"]["permanent_error"],
        "gain": -ends["domain"],
        "verdicts": {gate["limit"]: gate["verdict"] for gate in summary["gates"]},
        "actions": [
            {key: action[key] for key in ("step", "action", "from", "to", "why")}
            for action in map(json.loads, actions)
        ],
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "probes": {
            "probe_share": summary["monitor"]["probe_share"],
            "work": summary["monitor"]["work"],
            "share": summary["monitor"]["share"],
            "share_outside": outside / summary["seconds"],
            "off": outside / summary["probe_seconds"] - 1,
            "readings": summary["monitor"]["probes"],
        },
    }


def probing(training: Path, summary: dict[str, Any], growth: Growth) -> float:
    """Seconds that probes took, as seen from outside."""
    lines = (training / "probes.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    first = [line for line in lines if json.loads(line)["step"] == 0]
    begun, ended = (growth.when(sum(len(line.encode()) for line in part)) for part in (first, lines))
    others = ended - begun - summary["seconds"] - summary["checkpoint_seconds"]
    return others + sum(json.loads(line)["seconds"] for line in first)


def compared(without: dict[str, Any], gated: dict[str, Any]) -> dict[str, Any]:
    """What is claimed, and whether it is so."""
    probes = [run["probes"] for run in (without, gated)]
    return {
        "gain_kept": gated["gain"] / without["gain"],
        "broken_without": without["rise"] > LIMIT,
        "held_with": gated["verdicts"][GATE["limit"]] == "held",
        "within_share": all(each["work"] <= each["probe_share"] for each in probes),
        "within_3_percent": all(abs(each["off"]) <= 0.03 for each in probes),
    }


def table(runs: dict[str, dict[str, Any]], claims: dict[str, Any]) -> str:
    """Both runs, side by side in bits per byte, work and shares of the time, and what follows."""
    heads = ("probes say", 13), ("outside", 10), ("off", 8), ("work", 8), ("allowed", 9)
    lines = [f"{'':<10}{'rise':>18}{'gain':>10}" + "".join(f"{head:>{width}}" for head, width in heads)]
    for name, run in runs.items():
        probes, error = run["probes"], run["rise_error"] or 0.0
        lines.append(
            f"{name:<10}{run['rise']:>+9.4f} ± {2 * error:.4f}{run['gain']:>10.4f}{probes['share']:>13.2%}"
            f"{probes['share_outside']:>10.2%}{probes['off']:>+8.1%}{probes['work']:>8.1%}"
            f"{probes['probe_share']:>9.0%}"
        )
        lines += [
            f"    step {act['step']}: {act['action']} {act['from']:.2f} → {act['to']:.2f}: {act['why']}"
            for act in run["actions"]
        ]
    kept = f"{claims['gain_kept']:.0%} of the gain is kept"
    said = [
        f"{name.replace('_', ' ')}: {'yes' if so else 'NO'}" for name, so in claims.items() if so in (0, 1)
    ]
    return "\n".join([*lines, "; ".join([kept, *said])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--domain", type=Path, required=True, metavar="FILE.jsonl", help="text to be learnt")
    parser.add_argument("--general", type=Path, required=True, metavar="FILE.jsonl", help="text to be kept")
    parser.add_argument("--replay", type=Path, metavar="FILE.jsonl", help="own samples if left out")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--start-token", default="<|endoftext|>", help="before and after documents, or auto")
    parser.add_argument("--tokens", type=int, default=40_000, help="of each training, replay included")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--rows", type=int, default=20, help="sequences of a batch")
    parser.add_argument("--micro-rows", type=int, default=10)
    parser.add_argument("--peak", type=float, default=4e-4, help="learning rate")
    parser.add_argument("--probe-share", default="10%", help="of the work")
    parser.add_argument("--every", type=int, default=1, help="steps between readings")
    parser.add_argument("--probe-tokens", type=int, default=1_500, help="of each held-out text")
    parser.add_argument("--heldout", type=float, default=0.05, help="share of the domain's documents")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    files = {kind: path.absolute() for kind in KINDS if (path := getattr(options, kind))}
    vars(options).update(files)
    texts = {kind: hashlib.sha256(path.read_bytes()).hexdigest() for kind, path in files.items()}
    names = ("tokens", "length", "rows", "peak", "probe_share", "every", "probe_tokens", "heldout", "seed")
    model = options.model if options.model == MODEL else Path(options.model).name
    setting = {"model": model, "texts": texts} | {name: getattr(options, name) for name in names}
    runs = {name: measure(options, gates) for name, gates in (("without", []), ("with", [GATE]))}
    claims = compared(runs["without"], runs["with"])
    record.write(NAME, {"setting": setting, "runs": runs, "claims": claims})
    print(table(runs, claims))


if __name__ == "__main__":
    main()
