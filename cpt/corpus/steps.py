"""Keep a corpus as it is after each step, so that a killed stage goes on behind the last one.

Files are kept as hard links: later steps replace files and never write into them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.atomic import atomic_folder
from cpt.corpus.digests import DigestSet
from cpt.corpus.examples import Example
from cpt.corpus.index import SourceCounts
from cpt.corpus.links import link_all

_STATE = "state.json"
_FILES = "corpus"
_DIGESTS = ("heldout", "trained")


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
    heldout: DigestSet = field(default_factory=DigestSet)
    trained: DigestSet = field(default_factory=DigestSet)
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
        self._done = 0
        self._kept = max((int(each.name) for each in self._folder.glob("[0-9]*")), default=0)
        digests, kept = work / "digests", self._folder / str(self._kept)
        shutil.rmtree(digests, ignore_errors=True)
        if self._kept:
            link_all(kept / _FILES, corpus)
            for name in _DIGESTS:
                link_all(kept / name, digests / name)
        self.found = _read(kept) if self._kept else BuildState()
        for name in _DIGESTS:
            setattr(self.found, name, DigestSet(digests / name))

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
        getattr(found, name).save(folder / name)
    state = {
        "sources": {name: counts.model_dump() for name, counts in found.sources.items()},
        "examples": found.examples,
        "metrics": found.metrics,
    }
    (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")


def _read(folder: Path) -> BuildState:
    """Read a state without its files and digests."""
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return BuildState(
        sources={name: SourceCounts.model_validate(counts) for name, counts in state["sources"].items()},
        examples=[Example(*each) for each in state["examples"]],
        metrics=state["metrics"],
    )
