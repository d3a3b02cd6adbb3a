"""What cpt's log, ledger, proofs, probes and asynchronous checkpoints cost beside the steps themselves.

The same steps of SmolLM2-135M on packed short documents, bare and with all that is on by default and the
search for spikes, in processes that take turns (trackers and snapshots for roll-back are off). A checkpoint
(1.6 GB) is written, and a text probed, after every 12 of 25 steps of 4,096 tokens: every minute or two here,
much more often than anybody would.

    python benchmarks/extras.py --pairs 2
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import record
from training import MODEL, compete, documents, job_of, short_rows, write_data


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=25, help="the first is warm-up, not counted")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument(
        "--checkpoint-every", type=int, default=12, help="steps between checkpoints, and probes"
    )
    parser.set_defaults(compile=False, gradient_checkpointing=False)
    return parser.parse_args()


def cost(pairs: list[dict[str, dict[str, Any]]], steps: int) -> dict[str, Any]:
    """Medians over pairs: seconds per step, and what is added to them by what."""
    bare = statistics.median(pair["bare"]["total"] for pair in pairs) / steps
    return {
        "bare_seconds_per_step": bare,
        "full_seconds_per_step": statistics.median(pair["full"]["total"] for pair in pairs) / steps,
        "added": statistics.median(pair["full"]["total"] / pair["bare"]["total"] - 1 for pair in pairs),
        "added_without_probes": statistics.median(
            (pair["full"]["total"] - pair["full"]["probes"]) / pair["bare"]["total"] - 1 for pair in pairs
        ),
        "added_to_the_median_step": statistics.median(
            statistics.median(pair["full"]["seconds"][1:]) / statistics.median(pair["bare"]["seconds"][1:])
            - 1
            for pair in pairs
        ),
        "probes": statistics.median(pair["full"]["probes"] / steps / bare for pair in pairs),
        "waiting_for_checkpoints": statistics.median(
            pair["full"]["checkpoints"] / steps / bare for pair in pairs
        ),
        "pairs": [{name: result["total"] for name, result in pair.items()} for pair in pairs],
    }


def main() -> None:
    from cpt.references import resolve_model

    options = parse()
    model = resolve_model(MODEL)
    scripts = {"bare": "bare_loop.py", "full": "full_loop.py"}
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        count = options.steps * options.micro_batch * options.accumulate
        write_data(short_rows(documents(model, options.length), options.length, count), Path(folder), model)
        job = job_of(options, str(model), folder)
        for number in range(options.pairs):
            order = list(scripts) if number % 2 == 0 else list(reversed(scripts))
            pairs.append({name: compete(sys.executable, scripts[name], job) for name in order})
            print({name: round(result["total"], 1) for name, result in pairs[-1].items()}, flush=True)
    figures = vars(options) | cost(pairs, options.steps - 1)
    print(record.write("extras", figures))
    print(f"the extras cost {figures['added']:.1%} of a step")


if __name__ == "__main__":
    main()
