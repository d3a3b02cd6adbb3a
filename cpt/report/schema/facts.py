"""All facts of one run."""
# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.base import Fact
from cpt.report.schema.making import Documents, Merge, StageFact, Vocabulary
from cpt.report.schema.probes import Probe
from cpt.report.schema.scores import Suites, Task
from cpt.report.schema.training import TrainedTokens, Training
from cpt.report.schema.watching import Monitoring


class Facts(Fact):
    """Everything that the page shows, JSON-able."""

    name: str
    title: str
    base: str
    verdict: str
    basis: str
    created: str
    confidence: float
    probes: dict[str, Probe] = {}
    watched: Monitoring = Monitoring()
    tokens: dict[str, int] = {}
    tokens_per_second: float | None = None
    seconds: dict[str, float] = {}
    vocabulary: Vocabulary = Vocabulary()
    tasks: dict[str, Task] = {}
    suites: Suites | None = None
    training: Training | None = None
    ledger: dict[str, TrainedTokens] = {}
    documents: dict[str, Documents] = {}
    merge: Merge | None = None
    stages: list[StageFact] = []
    absent: list[str] = []
    recipe: str = ""
    versions: dict[str, str] = {}
    machine: dict[str, str | int] = {}
