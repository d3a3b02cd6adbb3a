"""What cpt's log, ledger, proofs, probes and asynchronous checkpoints cost beside the steps themselves.

SmolLM2-135M on packed short documents, in one process with all that is on by default and the search for
spikes (trackers and snapshots for roll-back are off). The bare loop is the gradient and its application. What
the loop does besides is timed as such; what checkpoints cost that are written meanwhile is how much longer
the steps took that they overlap with, by least squares. A checkpoint (1.6 GB) is written, and a text probed,
after every 12 steps of 4,096 tokens, which is much more often than anybody would: the cost at other
distances follows. Whole runs, bare and full in turn, are there for comparison (`--pairs`); on a machine
shared with others their noise is larger than what is to be measured.

    python benchmarks/extras.py --pairs 1
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import record
from training import MODEL, compete, documents, job_of, short_rows, write_data

DEFAULT_CHECKPOINT = 50
"""Steps between checkpoints where a recipe does not say."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=0, help="whole runs, bare and full, that are compared")
    parser.add_argument("--steps", type=int, default=61, help="the first is warm-up, not counted")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument(
        "--checkpoint-every", type=int, default=12, help="steps between checkpoints, and probes"
    )
    parser.set_defaults(compile=False, gradient_checkpointing=False)
    return parser.parse_args()


def account(full: dict[str, Any]) -> dict[str, Any]:
    """Where a run's time went, the first step aside: seconds, and shares of what the bare steps took."""
    spans = np.asarray(full["bare"][1:], dtype=float)  # [steps, gradient and application, begin and end]
    seconds = (spans[..., 1] - spans[..., 0]).sum(1)
    overlap = np.asarray([_overlap(step, full["writes"]) for step in spans])
    slowdown, error = _slope(overlap, seconds)
    writes = len(full["writes"])
    overlapped = float(overlap.sum())
    written, written_error = slowdown * overlapped / writes, error * overlapped / writes
    bare = float(seconds.sum()) - slowdown * overlapped
    step = bare / len(seconds)
    besides = full["total"] - float(seconds.sum()) - full["probes"]
    return {
        "bare_seconds_per_step": step,
        "besides": besides / bare,
        "waiting_for_checkpoints": full["checkpoints"] / bare,
        "probes": full["probes"] / bare,
        "seconds_per_checkpoint": written,
        "seconds_per_checkpoint_error": written_error,
        "processor_seconds_per_checkpoint": statistics.mean(full["writing_processor_seconds"]),
        "checkpoints": written * writes / bare,
        "at_default_distance": besides / bare + written / (DEFAULT_CHECKPOINT * step),
        "at_default_distance_error": written_error / (DEFAULT_CHECKPOINT * step),
    }


def _overlap(step: np.ndarray, writes: list[tuple[float, float]]) -> float:
    """Seconds of a step [2, 2] in which a checkpoint was being written."""
    return sum(max(0.0, min(end, done) - max(begin, began)) for begin, end in step for began, done in writes)


def _slope(overlap: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Least squares: how many seconds a step takes longer per second of overlap, and its standard error."""
    centred = overlap - overlap.mean()
    slope = float((centred * seconds).sum() / (centred**2).sum())
    left = seconds - seconds.mean() - slope * centred
    variance = float((left**2).sum()) / (len(seconds) - 2)
    return slope, float(np.sqrt(variance / (centred**2).sum()))


def main() -> None:
    from cpt.references import resolve_model

    options = parse()
    model = resolve_model(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        count = options.steps * options.micro_batch * options.accumulate
        write_data(short_rows(documents(model, options.length), options.length, count), Path(folder), model)
        job = job_of(options, str(model), folder)
        cost = account(compete(sys.executable, "full_loop.py", job))
        print({name: round(value, 4) for name, value in cost.items()}, flush=True)
        pairs = []
        for number in range(options.pairs):
            order = ["bare", "full"] if number % 2 == 0 else ["full", "bare"]
            totals = {name: compete(sys.executable, f"{name}_loop.py", job)["total"] for name in order}
            pairs.append(totals["full"] / totals["bare"] - 1)
            print(f"pair {number + 1}: {pairs[-1]:+.1%}", flush=True)
    print(record.write("extras", vars(options) | cost | {"pairs": pairs}))
    print(
        f"what the loop does besides costs {cost['besides']:.2%}; with a checkpoint every "
        f"{DEFAULT_CHECKPOINT} steps {cost['at_default_distance']:.2%} "
        f"± {cost['at_default_distance_error']:.2%}"
    )


if __name__ == "__main__":
    main()
