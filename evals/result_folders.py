"""Results as a folder: `results.json` for readers and tools, `items.jsonl` with one line for each task.

Where evaluations lie: a folder for each model's results.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path

from cpt.errors import CptError, UsageError
from cpt.references import resolve_model
from evals.models.request_cache import model_fingerprint
from evals.results import Items, Results, can_combine, join

RESULTS = "results.json"
ITEMS = "items.jsonl"


def save_results(results: Results, folder: Path) -> Path:
    """Write results; a file is there whole or not at all, and `results.json` is there last."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"task": task, **items.model_dump()}, ensure_ascii=False)
        for task, items in results.items.items()
    )
    _write(folder / ITEMS, "".join(f"{line}\n" for line in lines))
    _write(folder / RESULTS, results.model_dump_json(indent=2, exclude={"items"}) + "\n")
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
        return Results.model_validate({**said, "items": _read_task_items(folder / ITEMS)})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{folder} is damaged: {type(error).__name__}: {error}",
            hint="Remove it and evaluate the model again: answers that are kept are used.",
        ) from error


def _read_task_items(file: Path) -> dict[str, Items]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return {row.pop("task"): Items.model_validate(row) for row in rows}


def _write(file: Path, text: str) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)


_DIGITS = 8


def combine_with_saved(results: Results, out: Path) -> tuple[Path, Results]:
    """Where a model's results belong, joined with what is there of other suites.

    The folder has the model's name and the beginning of its fingerprint; a number is added where results of
    other settings or libraries lie.
    """
    name = f"{_short_name(results.model)}-{results.fingerprint[:_DIGITS]}"
    for number in itertools.count(1):
        folder = out / (name if number == 1 else f"{name}-{number}")
        if not (folder / RESULTS).is_file():
            return folder, results
        earlier = load_results(folder)
        if can_combine(earlier, results):
            return folder, join(earlier, results)
    raise AssertionError


def _short_name(model: str) -> str:
    """The end of a reference, as part of a file's name; an artifact's is that of its folder."""
    parts = [part for part in re.split(r"[/\\]", model.partition("#")[0]) if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    return re.sub(r"[^\w.@=-]+", "-", parts[-1] if parts else "model")


def find_folder(word: str, root: Path) -> Path:
    """The folder of results that a user names.

    Args:
        word: a folder of results, one that holds a single such folder, the name of one below `root`, or a
            model that was evaluated into it.

    Raises:
        UsageError: there is none, or several.
    """
    for place in (Path(word), root / word):
        if (place / RESULTS).is_file():
            return place
    inner = result_folders(Path(word))
    if len(inner) == 1:
        return inner[0]
    if len(inner) > 1:
        names = ", ".join(folder.name for folder in inner)
        raise UsageError(f"{word} holds results of several evaluations: {names}", hint="Name one of them.")
    return _of_model(word, root)


def find_results(word: str, root: Path) -> Results:
    """The results that a user names (see `find_folder`)."""
    return load_results(find_folder(word, root))


def _of_model(word: str, root: Path) -> Path:
    known = result_folders(root)
    found = [each for each in known if load_results(each).model == word] or _of_fingerprint(word, known)
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


def _of_fingerprint(word: str, known: list[Path]) -> list[Path]:
    """Results of the model, whatever it was called when it was evaluated."""
    if not (Path(word) / "config.json").is_file():
        return []
    try:
        fingerprint = model_fingerprint(resolve_model(word))
    except CptError:
        return []
    return [each for each in known if load_results(each).fingerprint == fingerprint]


def result_folders(root: Path) -> list[Path]:
    """The folders of results directly below a folder, by name."""
    return sorted(file.parent for file in root.glob(f"*/{RESULTS}"))
