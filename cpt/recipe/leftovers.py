"""Find and remove what runs no longer use: older results, abandoned attempts, unfinished writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpt.recipe.journal import Run, find_run
from cpt.recipe.store import MODEL, Store

Kind = Literal["older result", "abandoned attempt", "unfinished write"]


@dataclass(frozen=True)
class Leftover:
    """A folder that the last command of its run neither used nor left to be continued.

    Attributes:
        run: Name of the run.
        folder: The folder.
        kind: Why it is left.
        stage: Stage that made it; empty for an unfinished write.
    """

    run: str
    folder: Path
    kind: Kind
    stage: str = ""


def leftovers(run: Run) -> list[Leftover]:
    """Return the leftovers of a run, by name.

    Results and attempts of the last command's stages stay, the data that several results share, and the model
    that the run's link names. A stage that the last command has not finished keeps its newest result: it may
    be all that is left of a finished run.
    """
    used = _used(run)
    found = [_leftover(run.name, folder, used) for folder in run.folder.iterdir() if folder.is_dir()]
    return sorted((each for each in found if each is not None), key=lambda each: each.folder.name)


def _used(run: Run) -> set[str]:
    """Return the names of the folders of results that stay."""
    used, store = set(), run.store
    for name, state in run.stages.items():
        used.add(store.artifact_folder(name, state["fingerprint"]).name)
        if store.find(name, state["fingerprint"]) is None and (older := store.artifacts(name)):
            used.add(older[-1].folder.name)
    model = run.folder / MODEL
    if model.is_symlink():
        used.add(model.readlink().parts[0])
    return used


def _leftover(run: str, folder: Path, used: set[str]) -> Leftover | None:
    if folder.is_symlink():
        return None
    kind, name = Store.kind_of(folder.name)
    if kind == "replaced" and not (folder.parent / name).exists():
        return None  # a finished result that a kill left under this name: `cpt run` restores it
    if kind in ("unfinished", "replaced"):
        return Leftover(run, folder, "unfinished write")
    if kind is None or name in used:
        return None
    stage = name.rpartition("-")[0]
    return Leftover(run, folder, "older result" if kind == "result" else "abandoned attempt", stage)


def freed_bytes(found: Iterable[Leftover]) -> int:
    """Return the bytes that the disk gains when folders are removed: a file that has other links stays."""
    links: dict[tuple[int, int], int] = {}
    facts: dict[tuple[int, int], os.stat_result] = {}
    for each in found:
        for status in _files(each.folder):
            key = (status.st_dev, status.st_ino)
            links[key] = links.get(key, 0) + 1
            facts[key] = status
    return sum(facts[key].st_blocks * 512 for key, count in links.items() if count == facts[key].st_nlink)


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield (Path(place) / name).lstat()


def remove(run: Run) -> list[Leftover]:
    """Remove the leftovers of a run while holding its lock, and return them.

    Raises:
        UsageError: A process runs it.
    """
    with run.store.lock():
        found = leftovers(find_run(run.folder.parent, str(run.folder)))  # as it is now that nothing runs
        for each in found:
            shutil.rmtree(each.folder)
    return found
