"""Where evaluations lie: a folder for each model's results."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from cpt.errors import CptError, UsageError
from cpt.references import resolve_model
from evals.joining import belong_together, join
from evals.models.fingerprint import model_fingerprint
from evals.result_files import RESULTS, load_results
from evals.results import Results

_DIGITS = 8


def with_earlier(results: Results, out: Path) -> tuple[Path, Results]:
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
        if belong_together(earlier, results):
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
