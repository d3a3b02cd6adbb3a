"""Settings decided by measurement: sweeps of one short training of SmolLM2, over three seeds.

    python benchmarks/decisions.py replay --domain FILE --replay FILE --general FILE [--name NAME]
    python benchmarks/decisions.py rewarming --domain FILE --replay FILE --general FILE

`cpt sweep` of `benchmarks/decisions/replay.yaml`; a sweep that was stopped goes on. Its page is in `--runs`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import record

RECIPE = Path(__file__).parent / "decisions" / "replay.yaml"
SWEEPS = {
    "replay": ["pretrain.replay=0,0.05,0.1,0.25,0.5"],
    "rewarming": ["pretrain.schedule.peak=3e-5,1e-4,3e-4", "pretrain.schedule.warmup=0,0.05,0.2"],
}


def command(options: argparse.Namespace, name: str) -> list[str]:
    """Return the command of a sweep."""
    sources = {"domain": options.domain, "replay": options.replay, "general": options.general}
    words = [f"corpus.{role}.0.path={file.absolute()}" for role, file in sources.items()]
    words += options.override
    varied = [word for setting in SWEEPS[options.sweep] for word in ("--vary", setting)]
    start = [sys.executable, "-m", "cpt", "sweep", str(RECIPE), *words, *varied]
    return [*start, "--seeds", options.seeds, "--limit", "general <= +0.01", "--name", name, "--json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sweep", choices=SWEEPS)
    parser.add_argument("--domain", type=Path, required=True, metavar="FILE")
    parser.add_argument("--replay", type=Path, required=True, metavar="FILE")
    parser.add_argument("--general", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", default="3", metavar="N")
    parser.add_argument("--name", help="name of the result")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    name = options.name or options.sweep
    call = [*command(options, name), "--runs", str(options.runs)]
    found: dict[str, Any] = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout)
    print(record.write(f"decision_{name}", found))


if __name__ == "__main__":
    main()
