"""Data of tasks as their authors publish them, made small."""

import csv
import json
from pathlib import Path

PLACES = ("heart", "kidney", "nerve", "muscle")


def write_piqa(folder: Path, count: int) -> str:
    """Write so many different items of PIQA, and return the folder of the data."""
    target = folder / "piqa"
    target.mkdir(parents=True, exist_ok=True)
    items = [
        {
            "goal": f"ease the fever of patient {n}",
            "sol1": f"give rest, water and the medicine of day {n}",
            "sol2": f"run {n} miles",
        }
        for n in range(count)
    ]
    (target / "valid.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    (target / "valid-labels.lst").write_text("".join(f"{n % 2}\n" for n in range(count)))
    return str(folder)


def write_mmlu(folder: Path, subject: str, count: int) -> str:
    """Write so many different items of a subject of MMLU, and return the folder of the data."""
    for split, size in (("test", count), ("dev", 5)):
        file = folder / "mmlu" / split / f"{subject}_{split}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="") as stream:
            for n in range(size):
                choices = [f"the {place} of patient {n}" for place in PLACES]
                csv.writer(stream).writerow([f"What hurts in case {split} {n}?", *choices, "ABCD"[n % 4]])
    return str(folder)
