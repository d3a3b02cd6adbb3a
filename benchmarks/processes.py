"""Commands, and steps of a benchmark's own script, as processes of their own: their seconds and peak memory.

The script that measures must stay small: a child's peak counts from its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

Step = Callable[..., dict[str, Any]]


def measured(command: Sequence[str], **environment: str) -> dict[str, Any]:
    """Run a command: seconds, processor seconds, peak memory in MiB; and what its last line of JSON says."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env=os.environ | environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        output.seek(0)
        last = output.read().strip().rpartition("\n")[2]
    facts: dict[str, Any] = json.loads(last) if last.startswith("{") else {}
    peak = usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    processor = usage.ru_utime + usage.ru_stime
    return facts | {"seconds": seconds, "processor_seconds": processor, "peak_mib": peak}


def step(name: str, **arguments: Any) -> dict[str, Any]:
    """A step of the script that runs; what it returns, and what it took."""
    return measured([sys.executable, sys.argv[0], "--step", name, "--arguments", json.dumps(arguments)])


def options_or_step(parser: argparse.ArgumentParser, *steps: Step) -> argparse.Namespace:
    """The script's options; where it is called for one of its steps, that is done and the process ends."""
    named = {each.__name__: each for each in steps}
    parser.add_argument("--step", choices=list(named), help=argparse.SUPPRESS)
    parser.add_argument("--arguments", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(named[options.step](**json.loads(options.arguments))))
        raise SystemExit
    return options


def medians(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median of each figure over the turns."""
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def resolve(model: str) -> dict[str, str]:
    """A step: folder of a model."""
    from cpt.references import resolve_model

    return {"folder": str(resolve_model(model))}
