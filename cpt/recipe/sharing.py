"""Share results between the runs of one folder: a stage with an equal fingerprint is made once.

The files of a shared result are hard links, so that it takes disk space once and either run may be removed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cpt.recipe.store import Record, Store

if TYPE_CHECKING:
    from cpt.recipe.plan import Plan

LOCKS = ".making"
"""Folder beside the runs with a lock for each result that is being made."""

_PAUSE = 0.2
"""Seconds between two attempts to take a lock; Ctrl-C is heeded between them."""


def find_beside(
    store: Store, stage: str, fingerprint: str, unfingerprinted: Mapping[str, Any]
) -> Record | None:
    """Return the same undamaged result in another run of the same folder of runs.

    Results without checksums, which older versions wrote, are not shared: their files cannot be checked. Nor
    are those made with other settings outside of the fingerprint: kept checkpoints and logs would be missing.
    """
    name = store.artifact_folder(stage, fingerprint).name
    for folder in sorted(store.folder.parent.glob(f"*/{name}")):
        if folder.parent == store.folder:
            continue
        other = Store(folder.parent)
        record = other.find(stage, fingerprint)
        if record is None or not record.has_checksums or record.unfingerprinted != unfingerprinted:
            continue
        if not other.damage(stage, fingerprint, note=False):  # the other run's lock is not held
            return record
    return None


def adopt(store: Store, record: Record) -> Record | None:
    """Link another run's result into this run; copy it where the file system has no links.

    Returns:
        The result at its place in this run; None if it was removed or damaged meanwhile.

    Raises:
        StageFailed: The run's folder is no longer held, or missing.
    """
    with store.writing(record.name, record.fingerprint) as staging:
        try:
            shutil.copytree(record.folder, staging, copy_function=_link, dirs_exist_ok=True)
        except OSError:  # shutil.Error, too: it was removed or made again meanwhile, or there is no room
            return None
        return store.accept(record, staging)


def adopt_all(plan: Plan, store: Store) -> Plan | None:
    """Bring the other runs' results that a plan uses into this run; None if one of them has gone."""
    entries = []
    for entry in plan.entries:
        if entry.artifact is not None and entry.artifact.folder.parent != store.folder:
            taken = adopt(store, entry.artifact)
            if taken is None:
                return None
            entry = replace(entry, artifact=taken)
        entries.append(entry)
    return replace(plan, entries=tuple(entries))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        if not Path(source).exists():
            raise
        shutil.copy2(source, target)


@contextmanager
def making(
    store: Store, stage: str, fingerprint: str, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the right to make a result, against other runs of the same folder that make the same.

    Args:
        store: The run.
        stage, fingerprint: Name of the stage, and fingerprint of its result.
        on_wait: Called once if another run is making it.
    """
    folder = store.folder.parent / LOCKS
    folder.mkdir(exist_ok=True)
    path = folder / store.artifact_folder(stage, fingerprint).name
    lock = FileLock(path, timeout=0)
    waited = False
    while True:
        try:
            lock.acquire()
            break
        except Timeout:
            if not waited:
                on_wait()
            waited = True
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        # Another run may wait for the removed file, and a third one make the result at the same time:
        # work done twice, and no wrong result.
        with suppress(OSError):
            path.unlink()
        lock.release()
        with suppress(OSError):
            folder.rmdir()
