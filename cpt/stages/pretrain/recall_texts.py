"""Warn of a run that does not read all the text whose facts the recall probe asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.sources import DOMAIN, QUESTIONS, STUDY
from cpt.stages.pretrain.mixture import part_of, train_on

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.stages.pretrain.config import PretrainConfig

_BY_DOCUMENTS = ("untrained", "reversed")
"""Groups of facts that a run knows from documents alone."""

_BY_QUESTIONS = ("trained",)

_REST = 0.05
"""Share of a source that may be left: a batch of a small part may be most of it."""


def unread(config: PretrainConfig, corpus: Path, stream: TrainingStream, steps: int) -> Iterator[str]:
    """Yield a warning for each source of domain text that is read less than once and has facts of the probe.

    The probe is made with the corpus: it cannot know that a fact was trained on, only that it may be.
    """
    from cpt.corpus.recall import read_recall

    probe = read_recall(corpus)
    for name in stream.domain_sources if probe else ():
        part, size, consumed = part_of(name), stream.size(name), stream.consumed(steps)[name]
        groups = [group for group in _groups_of(part) if group in probe]
        if _reads_all(name, stream, steps) or not groups:
            continue
        epochs, share = math.floor(100 * consumed / size) / 100, math.ceil(100 * (1 - consumed / size))
        facts = f"the facts that the recall probe calls {' and '.join(groups)}"
        lost = f"questions on {facts} are not trained on" if part == QUESTIONS else f"{facts} are not read"
        ways = "select less text"
        if consumed:
            more = train_on(config, stream, partial(_reads_all, name))
            ways = f"{more}, or {ways}"
        yield f"{part} is read {epochs:g} times: about {share}% of {lost} ({ways})"


def _groups_of(part: str) -> tuple[str, ...]:
    if part == DOMAIN:
        return _BY_QUESTIONS + _BY_DOCUMENTS
    if part == QUESTIONS:
        return _BY_QUESTIONS
    return () if part in STUDY else _BY_DOCUMENTS


def _reads_all(name: str, run: TrainingStream, steps: int) -> bool:
    """Return True if a run of so many steps reads all of a source, or leaves the rest of a batch.

    A run of one epoch ends with its last whole batch. What is left may be `_REST` of the source.
    """
    left = run.size(name) - run.consumed(steps)[name]
    return left < run.batch_sequences and left <= _REST * run.size(name)
