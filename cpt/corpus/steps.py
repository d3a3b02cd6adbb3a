"""Keep a corpus as it is after each step, so that a killed stage goes on behind the last one.

Files are kept as hard links: later steps replace files and never write into them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.atomic import atomic_folder
from cpt.corpus.examples import Example
from cpt.corpus.index import SourceCounts

_STATE = "state.json"
_FILES = "corpus"
_DIGESTS = ("heldout", "trained")
_DIGEST = 16
"""Bytes of a document's digest."""


@dataclass
class BuildState:
    """The state of a corpus between two steps, besides its files.

    Attributes:
        sources: Counts by source.
        heldout: Digests of all held-out documents.
        trained: Digests of all training documents as they were read; later steps may have removed some.
        examples: Examples of removed and rewritten documents.
        metrics: Metrics of the steps by name.
    """

    sources: dict[str, SourceCounts] = field(default_factory=dict)
    heldout: set[bytes] = field(default_factory=set)
    trained: set[bytes] = field(default_factory=set)
    examples: list[Example] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


class Steps:
    """The steps of a corpus in their order; those that an interrupted attempt finished are not done again."""

    def __init__(self, corpus: Path, work: Path) -> None:
        """Take up what is kept.

        Args:
            corpus: Corpus folder that the steps fill.
            work: Folder that survives a kill.
        """
        self._corpus, self._folder = corpus, work / "steps"
        self._done, self.found = 0, BuildState()
        self._kept = max((int(each.name) for each in self._folder.glob("[0-9]*")), default=0)
        if self._kept:
            self.found = _read(self._folder / str(self._kept), corpus)

    def do(self, step: Callable[[BuildState], None]) -> None:
        """Do the next step, unless it is done, and keep what it leaves."""
        self._done += 1
        if self._done <= self._kept:
            return
        step(self.found)
        with atomic_folder(self._folder / str(self._done)) as scratch:
            _write(scratch, self._corpus, self.found)
        shutil.rmtree(self._folder / str(self._done - 1), ignore_errors=True)


def _write(folder: Path, corpus: Path, found: BuildState) -> None:
    link_all(corpus, folder / _FILES)
    for name in _DIGESTS:
        (folder / name).write_bytes(b"".join(sorted(getattr(found, name))))
    state = {
        "sources": {name: counts.model_dump() for name, counts in found.sources.items()},
        "examples": found.examples,
        "metrics": found.metrics,
    }
    (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")


def _read(folder: Path, corpus: Path) -> BuildState:
    link_all(folder / _FILES, corpus)
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return BuildState(
        sources={name: SourceCounts.model_validate(counts) for name, counts in state["sources"].items()},
        **{name: _digests(folder / name) for name in _DIGESTS},
        examples=[Example(*each) for each in state["examples"]],
        metrics=state["metrics"],
    )


def link_all(source: Path, target: Path) -> None:
    """Make all files of a folder appear in another one too."""
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        link(path, target / path.relative_to(source))


def link(source: Path, target: Path) -> None:
    """Make a file appear in another folder too, by a hard link or else by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _digests(file: Path) -> set[bytes]:
    whole = file.read_bytes()
    return {whole[at : at + _DIGEST] for at in range(0, len(whole), _DIGEST)}
