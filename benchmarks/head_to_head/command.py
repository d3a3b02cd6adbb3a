"""Parse the command line, say how long the comparison takes, run it and record what it found."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import record
from decisions.command import domain, existing
from decisions.sweeps import terminate
from forgetting import MODEL

from head_to_head.contenders import RECIPE, arms_of
from head_to_head.results import compared, table
from head_to_head.study import contest, setting, to_do

PEER_LIBRARIES = ("llamafactory", "torch", "transformers", "peft", "accelerate", "datasets")


def rates(word: str) -> list[float]:
    """Parse rates: 1e-4,3e-4; none of an empty word."""
    return [float(each) for each in word.split(",") if each]


def parse(about: str, arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; files become absolute."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", type=domain, required=True, action="append", metavar="NAME=FILE")
    parser.add_argument("--general", type=existing, required=True, metavar="FILE", help="never trained on")
    parser.add_argument(
        "--replay", type=existing, metavar="FILE", help="for ours, a row of a batch; none if left out"
    )
    parser.add_argument("--minutes", type=float, default=7.0, help="of every run")
    parser.add_argument("--seeds", default="17,18,19", metavar="N,N,N")
    parser.add_argument("--llama-factory-python", help="Python of its environment; without: not compared")
    parser.add_argument("--rates", type=rates, default=[1e-4, 2e-4, 4e-4], help="of LLaMA-Factory full")
    parser.add_argument("--lora-rates", type=rates, default=[1e-3, 2e-3, 4e-3], help="of LLaMA-Factory LoRA")
    parser.add_argument("--trainer-rates", type=rates, default=[2e-4], help="of the Trainer")
    parser.add_argument("--peaks", type=rates, default=[2e-4, 3e-4], help="of ours")
    parser.add_argument("--recipe", type=existing, default=RECIPE, metavar="FILE", help="of ours")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--rows", type=int, default=4, help="sequences of a batch")
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="sequences of a batch that a peer computes at once; all if left out",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every contender")
    parser.add_argument("--heldout", type=float, default=0.1, help="share of the domain that is measured")
    parser.add_argument("--probe-tokens", type=int, default=12_000, help="of each text that is measured")
    parser.add_argument("--window", type=int, default=1024, help="most tokens that are read at once")
    parser.add_argument("--suite", action="append", default=[], help="benchmarks: '{domain}:smoke'")
    parser.add_argument("--data", help="folder of the suites' data")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--start-token", default="<|endoftext|>", help="before and after documents, or auto")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--name", default="head_to_head", help="of the result")
    parser.add_argument("--dry-run", action="store_true", help="say how long it would take")
    options = parser.parse_args(arguments)
    for key in ("general", "replay", "recipe", "runs"):
        if getattr(options, key):
            setattr(options, key, getattr(options, key).absolute())
    options.at_once = options.at_once or options.rows
    if options.rows % options.at_once:
        parser.error(f"--at-once {options.at_once} does not divide the {options.rows} sequences of a batch")
    options.domain = [(name, file.absolute()) for name, file in options.domain]
    return options


def peer_versions(python: str | None) -> dict[str, str]:
    """Return the versions of LLaMA-Factory and its libraries."""
    if python is None:
        return {}
    code = f"""
import json
from importlib.metadata import version
print(json.dumps({{name: version(name) for name in {PEER_LIBRARIES!r}}}))
"""
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(found))


def main(about: str, arguments: list[str] | None = None) -> None:
    """Run the comparison.

    Args:
        about: Description of the program.
        arguments: Words of the command line; None: those of the process.
    """
    options = parse(about, arguments)
    runs, hours = to_do(options)
    print(f"{runs} runs, about {hours:.1f} hours", file=sys.stderr)
    if options.dry_run:
        return
    signal.signal(signal.SIGTERM, terminate)
    import torch

    from cpt.models.packed_model import resolve_precision
    from cpt.references import resolve_model

    torch.set_num_threads(options.threads)
    options.bf16 = resolve_precision("auto") is torch.bfloat16
    base = resolve_model(options.model)
    figures: dict[str, Any] = {
        "setting": {name: setting(options, file) for name, file in options.domain},
        "bf16": options.bf16,
        "contenders": [arm.label for arm in arms_of(options)],
        "peer_versions": peer_versions(options.llama_factory_python),
        "domains": {},
    }
    for name, file in options.domain:
        rows = contest(options, base, name, file)
        if not rows:
            raise SystemExit(f"{name}: no run has a result")
        figures["domains"][name] = compared(rows)
        print(table(name, figures["domains"][name]), flush=True)
        print(record.write(options.name, figures))
