"""Kill -9 at random moments, as many times as one likes: does a run still end with the same weights?

A tiny model trains in a process that is killed and started again until it is finished; then its weights are
compared, to the bit, with those of an undisturbed run. Checkpoints are written after every third step.

    python benchmarks/kills.py --kills 50
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import record

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "training")]

from killing import kill_until, settings  # noqa: E402
from tiny import write_tiny_model  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills for each mode")
    parser.add_argument("--mode", nargs="+", default=["blocking", "async"], help="checkpoint modes")
    parser.add_argument("--steps", type=int, default=40, help="steps of a run")
    parser.add_argument("--seed", type=int, default=11, help="of the moments")
    options = parser.parse_args()
    for mode in options.mode:
        with tempfile.TemporaryDirectory() as folder:
            model = write_tiny_model(Path(folder) / "model")
            chosen = settings(mode, options.steps)
            outcome = kill_until(model, Path(folder), chosen, options.kills, options.seed)
        print(f"{mode}: {outcome.kills} kills, {outcome.equal} of {outcome.runs} runs equal to the bit")
        figures = {"steps": options.steps, "seed": options.seed, **dataclasses.asdict(outcome)}
        record.write(f"kills_{mode}", figures)
        if outcome.equal != outcome.runs:
            raise SystemExit("a run ended with other weights")


if __name__ == "__main__":
    main()
