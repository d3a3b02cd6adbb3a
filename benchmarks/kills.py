"""Kill -9 at random moments, as many times as one likes: does a run still end with the same weights?

A tiny model trains in a process that is killed and started again until it is finished; then its weights are
compared, to the bit, with those of an undisturbed run. Checkpoints are written after every third step.
On two processes (gloo) it is also resumed on one or two at random: then no step may have had other data.

    python benchmarks/kills.py --kills 50
    python benchmarks/kills.py --kills 25 --processes 2
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import record

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "training")]

from killing import Outcome, kill_until, settings  # noqa: E402
from tiny import write_tiny_model  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills for each mode")
    parser.add_argument("--mode", nargs="+", default=["blocking", "async"], help="checkpoint modes")
    parser.add_argument("--steps", type=int, default=40, help="steps of a run")
    parser.add_argument("--seed", type=int, default=11, help="of the moments")
    parser.add_argument("--processes", type=int, default=1, choices=[1, 2], help="of a run")
    options = parser.parse_args()
    common = {"steps": options.steps, "seed": options.seed}
    if options.processes == 1:
        for mode in options.mode:
            record.write(f"kills_{mode}", common | killed(mode, (1,), options))
        return
    figures: dict[str, dict[str, int]] = {}
    for mode in options.mode:
        for name, counts in {"on two": (2,), "on one or two": (2, 1)}.items():
            figures[f"{mode}, {name}"] = killed(mode, counts, options)
            record.write("kills_two_processes", common | figures)


def killed(mode: str, counts: Sequence[int], options: argparse.Namespace) -> dict[str, int]:
    """What became of runs in one mode, on numbers of processes drawn from some."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "model")
        chosen = settings(mode, options.steps)
        outcome: Outcome = kill_until(model, Path(folder), chosen, options.kills, options.seed, counts)
    print(f"{mode}, processes {counts}: {outcome.kills} kills, {outcome.equal} of {outcome.runs} runs equal")
    if outcome.equal != outcome.runs:
        raise SystemExit("a run ended otherwise")
    return dataclasses.asdict(outcome)


if __name__ == "__main__":
    main()
