"""Results as a folder: `results.json` for readers and tools, `items.jsonl` with one line for each task."""

from __future__ import annotations

import json
from pathlib import Path

from cpt.atomic import write_text
from cpt.errors import UsageError
from evals.results import Items, Results

RESULTS = "results.json"
ITEMS = "items.jsonl"


def save_results(results: Results, folder: Path) -> Path:
    """Write results; a file is there whole or not at all, and `results.json` is there last."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"task": task, **items.model_dump()}, ensure_ascii=False)
        for task, items in results.items.items()
    )
    write_text(folder / ITEMS, "".join(f"{line}\n" for line in lines), concurrent=True)
    found = results.model_dump_json(indent=2, exclude={"items"})
    write_text(folder / RESULTS, f"{found}\n", concurrent=True)
    return folder / RESULTS


def load_results(folder: Path) -> Results:
    """Read results.

    Raises:
        UsageError: the folder holds none, or they are damaged.
    """
    file = folder / RESULTS
    if not file.is_file():
        raise UsageError(
            f"{folder} holds no results of an evaluation ({RESULTS})",
            hint="`cpt eval run MODEL --suite … --out DIR` writes them.",
        )
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Results.model_validate({**said, "items": _items(folder / ITEMS)})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{folder} is damaged: {type(error).__name__}: {error}",
            hint="Remove it and evaluate the model again: answers that are kept are used.",
        ) from error


def _items(file: Path) -> dict[str, Items]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return {row.pop("task"): Items.model_validate(row) for row in rows}
