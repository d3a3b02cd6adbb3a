"""Operating curves of a limit: how often it is found held, not shown or broken, by documents and true rise.

The judge is cpt's own, at the end of a run. Changes of documents are drawn from a normal distribution whose
spread is that of a real probe: a standard error of 0.0075 bits per byte at eight documents.

    python benchmarks/gates.py
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from typing import Any

import numpy as np
import record
from pydantic import TypeAdapter

from cpt.monitor.gates import Gate, judge
from cpt.monitor.noise import detectable_rise, needed_items
from cpt.monitor.reading import Items, Reading

DOCUMENTS = (8, 20, 50, 100, 200, 400)
RISES = (0.0, 1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3, 2.0, 3.0, 4.0)
"""True rises, as multiples of the limit."""

VERDICTS = ("held", "not shown", "broken")


def spread(error: float, documents: int) -> float:
    """Standard deviation of the documents' changes, from the standard error of their mean."""
    return error * math.sqrt(documents)


def shares(
    limit: float, rise: float, documents: int, deviation: float, rounds: int, generator: np.random.Generator
) -> dict[str, float]:
    """Share of each verdict over many runs whose true rise is known."""
    gate = TypeAdapter(Gate).validate_python({"limit": f"general <= +{limit!r}", "action": "fail"})
    ones = np.ones(documents)
    start = Items(ones, ones)
    found: Counter[str] = Counter()
    for changes in generator.normal(rise, deviation, (rounds, documents)):
        items = Items(1 + changes, ones)
        numbers = (items.value, items.standard_error, *items.rise_over(start))
        reading = Reading(1, 1, "general", "text", "bits per byte", *numbers, items=documents)
        found[judge([gate], [reading], 1.0)[0].verdict] += 1
    return {verdict: found[verdict] / rounds for verdict in VERDICTS}


def curves(limit: float, deviation: float, rounds: int, seed: int) -> list[dict[str, Any]]:
    """A row for each number of documents: its error, the rise that it detects, and the verdicts by rise."""
    generator = np.random.default_rng(seed)
    return [
        {
            "documents": documents,
            "error": (error := deviation / math.sqrt(documents)),
            "detectable_rise": detectable_rise(limit, error, documents),
            "by_rise": [
                {"rise": rise, **shares(limit, rise * limit, documents, deviation, rounds, generator)}
                for rise in RISES
            ],
        }
        for documents in DOCUMENTS
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Held / not shown / broken in percent, by documents and true rise."""
    lines = ["documents" + "".join(f"{f'{rise:.2f} x limit':>16}" for rise in RISES)]
    for row in rows:
        cells = (" / ".join(f"{100 * each[verdict]:.0f}" for verdict in VERDICTS) for each in row["by_rise"])
        lines.append(f"{row['documents']:>9}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--limit", type=float, default=0.02, help="bits per byte")
    parser.add_argument("--error", type=float, default=0.0075, help="standard error of a rise ...")
    parser.add_argument("--of", type=int, default=8, help="... on so many documents")
    parser.add_argument("--rounds", type=int, default=10_000, help="simulated runs for each figure")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    deviation = spread(options.error, options.of)
    rows = curves(options.limit, deviation, options.rounds, options.seed)
    needed = needed_items(options.limit, options.error, options.of)
    record.write("gates", {"setting": vars(options), "needed_documents": needed, "curves": rows})
    print(table(rows))
    print(f"{needed} documents find a rise of the limit and a third in 95 of 100 runs")


if __name__ == "__main__":
    main()
