"""Write results as folders, one per model, and find them again.

A folder holds `results.json` for readers and tools, and `items.jsonl` with one line for each task.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from cpt.atomic import write_text
from cpt.errors import CptError, UsageError
from cpt.references import resolve_model
from evals.models.request_cache import model_fingerprint
from evals.results import Items, Results, can_combine, combine_results

RESULTS = "results.json"
ITEMS = "items.jsonl"

_DIGITS = 8


def save_results(results: Results, folder: Path) -> Path:
    """Write results, `results.json` last, and return its path; no file is ever there in part."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"task": task, **items.model_dump()}, ensure_ascii=False)
        for task, items in results.items.items()
    )
    write_text(folder / ITEMS, "".join(f"{line}\n" for line in lines), concurrent=True)
    write_text(folder / RESULTS, results.model_dump_json(indent=2, exclude={"items"}) + "\n", concurrent=True)
    return folder / RESULTS


def save_combined(results: Results, out: Path) -> Path:
    """Write results into the model's folder below `out`, combined with those of other suites there.

    The folder has the model's name and the beginning of its fingerprint. A number is added where a folder
    holds results of other settings or libraries.

    Returns:
        The folder.
    """
    name = f"{_short_name(results.model)}-{results.fingerprint[:_DIGITS]}"
    for number in itertools.count(1):
        folder = out / (name if number == 1 else f"{name}-{number}")
        if not (folder / RESULTS).is_file():
            save_results(results, folder)
            return folder
        earlier = load_results(folder)
        if can_combine(earlier, results):
            save_results(combine_results(earlier, results), folder)
            return folder
    raise AssertionError


def load_results(folder: Path) -> Results:
    """Read results.

    Raises:
        UsageError: The folder holds none, or they are damaged.
    """
    file = folder / RESULTS
    if not file.is_file():
        raise UsageError(
            f"{folder} holds no results of an evaluation ({RESULTS})",
            hint="`cpt eval run MODEL --suite … --out DIR` writes them.",
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return Results.model_validate({**record, "items": _read_task_items(folder / ITEMS)})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{folder} is damaged: {type(error).__name__}: {error}",
            hint="Remove it and evaluate the model again: answers that are kept are used.",
        ) from error


def _read_task_items(file: Path) -> dict[str, Items]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return {row.pop("task"): Items.model_validate(row) for row in rows}


def result_folders(root: Path) -> list[Path]:
    """Return the folders of results directly below a folder, by name."""
    return sorted(file.parent for file in root.glob(f"*/{RESULTS}"))


def find_results(word: str, root: Path) -> Results:
    """Read the results that a user names (see `find_folder`)."""
    return load_results(find_folder(word, root))


def find_folder(word: str, root: Path) -> Path:
    """Return the folder of results that a user names.

    Args:
        word: Folder of results, folder that holds a single such folder, name of one below `root`, or model
            that was evaluated into it.
        root: Folder that holds all results.

    Raises:
        UsageError: There is none, or there are several.
    """
    for folder in (Path(word), root / word):
        if (folder / RESULTS).is_file():
            return folder
    inner = result_folders(Path(word))
    if len(inner) == 1:
        return inner[0]
    if len(inner) > 1:
        names = ", ".join(folder.name for folder in inner)
        raise UsageError(f"{word} holds results of several evaluations: {names}", hint="Name one of them.")
    return _folder_of_model(word, root)


def _folder_of_model(word: str, root: Path) -> Path:
    known = result_folders(root)
    found = [each for each in known if load_results(each).model == word] or _same_fingerprint(word, known)
    if len(found) == 1:
        return found[0]
    names = ", ".join(folder.name for folder in found or known) or "none"
    if found:
        raise UsageError(
            f"there are {len(found)} evaluations of {word} in {root}, with different settings or libraries",
            hint=f"Name one of them: {names}.",
        )
    raise UsageError(
        f"there are no results of {word} in {root}",
        hint=f"Found: {names}. Evaluate a model first with cpt eval run.",
    )


def _same_fingerprint(word: str, known: list[Path]) -> list[Path]:
    """Return the results of a model folder, under whatever name it was evaluated."""
    if not (Path(word) / "config.json").is_file():
        return []
    try:
        fingerprint = model_fingerprint(resolve_model(word))
    except CptError:
        return []
    return [each for each in known if load_results(each).fingerprint == fingerprint]


def _short_name(model: str) -> str:
    """Return the end of a reference as part of a file's name; of an artifact, the name of its folder."""
    parts = [part for part in re.split(r"[/\\]", model.partition("#")[0]) if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    return re.sub(r"[^\w.@=-]+", "-", parts[-1] if parts else "model")
