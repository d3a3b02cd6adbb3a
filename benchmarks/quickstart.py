"""The quickstart, timed, idle and beside a process that keeps one core busy.

    python benchmarks/quickstart.py --runs DIR

The recipe is run twice. Recorded are: bits per byte of held-out text before and after with their
intervals, readings of each probe, the probability of an end in mid-sentence, and the merge that was chosen.
Both runs must make the same readings of the same values: how busy a machine is does not change what is read.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import record

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
BUSY = "while True: pass"


@contextmanager
def beside(command: list[str] | None) -> Iterator[None]:
    """Run another process meanwhile, and make sure that it lasts."""
    if command is None:
        yield
        return
    other = subprocess.Popen(command, start_new_session=True)
    try:
        yield
        if other.poll() is not None:
            raise SystemExit(f"{shlex.join(command)} ended before the run")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(other.pid, signal.SIGKILL)
        other.wait()


def measure(runs: Path, other: list[str] | None) -> dict[str, Any]:
    """Run the recipe from its start beside another process and return its figures."""
    if runs.exists():
        raise SystemExit(f"{runs} exists: what was begun otherwise would be taken for this run")
    command = [sys.executable, "-m", "cpt", "run", str(RECIPE), "--runs", str(runs)]
    with beside(other):
        done = subprocess.run(command)
    if done.returncode not in (0, 3, 4):  # 3 and 4: a limit is broken, or not shown to be held
        raise SystemExit(done.returncode)
    run = runs / "quickstart"
    scores = json.loads(found(run, "evaluate", "scores/scores.json"))
    summary = json.loads(found(run, "pretrain", "training/summary.json"))
    readings = [json.loads(line) for line in found(run, "pretrain", "training/probes.jsonl").splitlines()]
    merge = json.loads(found(run, "merge", "artifact.json"))["metrics"]
    artifacts = [json.loads(path.read_text(encoding="utf-8")) for path in run.glob("*/artifact.json")]
    stages = {artifact["stage"]: artifact["seconds"] for artifact in artifacts}
    ends = [reading["value"] for reading in readings if reading["probe"] == "early-end"]
    chosen = next(point for point in merge["search_points"] if point["chosen"])
    return {
        "exit": done.returncode,
        "seconds": sum(stages.values()),
        "seconds_by_stage": stages,
        "bits_per_byte": scores["bits_per_byte"],
        "tasks": scores["tasks"],
        "readings": Counter(reading["probe"] for reading in readings),
        "stability": summary["stability"],
        "early_end": {"before": ends[0], "after": ends[-1], "factor": ends[-1] / ends[0]},
        "merge": {"weight": chosen["weight"], "verdicts": merge["gates"]},
        "values": {f"{each['probe']} {each['step']}": each["value"] for each in readings},
    }


def found(run: Path, stage: str, file: str) -> str:
    """Text of a file in the only finished folder of a stage."""
    (folder,) = (path for path in run.glob(f"{stage}-*") if not path.name.endswith(".partial"))
    return (folder / file).read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for both runs, new")
    parser.add_argument("--beside", default=f"{sys.executable} -c '{BUSY}'", help="what keeps a core busy")
    options = parser.parse_args()
    others = {"idle": None, "busy": shlex.split(options.beside)}
    rows = {name: measure(options.runs / name, other) for name, other in others.items()}
    values = [row.pop("values") for row in rows.values()]
    figures = {
        "runs": rows,
        "same_readings": values[0].keys() == values[1].keys(),
        "same_values": values[0] == values[1],
    }
    record.write("quickstart", figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
