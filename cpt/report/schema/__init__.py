"""Define the facts of a run, as stored in `report.json`.

Losses are in bits per byte, unless the name says nats.
"""

# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.artifacts import (
    BoundReached,
    ConceptBalance,
    Documents,
    DocumentSelection,
    HypernetworkTraining,
    Merge,
    MergeInput,
    Split,
    StageFact,
    StudyDocuments,
    Trial,
    TrialPoint,
    Vector,
    VectorGrid,
    VectorPair,
    VectorParts,
    VectorRows,
    Vectors,
    Vocabulary,
    WeightSearch,
)
from cpt.report.schema.measurements import (
    Continual,
    CurvePoint,
    Fact,
    FurtherComparison,
    Interval,
    NoSignal,
    PairedFigure,
    PairedScores,
    Probe,
    ProbeTraining,
    Retention,
    SkippedTask,
    StabilityGap,
    SuiteAverage,
    SuiteGroup,
    Suites,
    SuiteTask,
    Task,
    TaskCurve,
)
from cpt.report.schema.monitoring import (
    WORST_FIRST,
    Action,
    ControlPoint,
    EarlyEnd,
    Gate,
    LayerUpdates,
    MixtureUpdate,
    MonitorCost,
    Monitoring,
    NewTokens,
    ProbeCost,
    Sample,
    SchedulePhase,
    SourceTokens,
    TrainedTokens,
    Training,
    TrainingStep,
)

__all__ = [
    "WORST_FIRST",
    "Action",
    "BoundReached",
    "ConceptBalance",
    "Continual",
    "ControlPoint",
    "CurvePoint",
    "DocumentSelection",
    "Documents",
    "EarlyEnd",
    "Fact",
    "Facts",
    "FurtherComparison",
    "Gate",
    "HypernetworkTraining",
    "Interval",
    "LayerUpdates",
    "Merge",
    "MergeInput",
    "MixtureUpdate",
    "MonitorCost",
    "Monitoring",
    "NewTokens",
    "NoSignal",
    "PairedFigure",
    "PairedScores",
    "Probe",
    "ProbeCost",
    "ProbeTraining",
    "Retention",
    "Sample",
    "SchedulePhase",
    "SkippedTask",
    "SourceTokens",
    "Split",
    "StabilityGap",
    "StageFact",
    "StudyDocuments",
    "SuiteAverage",
    "SuiteGroup",
    "SuiteTask",
    "Suites",
    "Task",
    "TaskCurve",
    "TrainedTokens",
    "Training",
    "TrainingStep",
    "Trial",
    "TrialPoint",
    "Vector",
    "VectorGrid",
    "VectorPair",
    "VectorParts",
    "VectorRows",
    "Vectors",
    "Vocabulary",
    "WeightSearch",
]


class Facts(Fact):
    """All facts of one run: everything that its page shows.

    recall: answers to questions on facts of the domain's documents, by group (`cpt.corpus.recall`).
    """

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
    hypernetwork: HypernetworkTraining | None = None
    tasks: dict[str, Task] = {}
    recall: dict[str, Task] = {}
    suites: Suites | None = None
    against: dict[str, FurtherComparison] = {}
    training: Training | None = None
    ledger: dict[str, TrainedTokens] = {}
    documents: dict[str, Documents] = {}
    selection: DocumentSelection | None = None
    study: StudyDocuments | None = None
    merge: Merge | None = None
    stages: list[StageFact] = []
    absent: list[str] = []
    recipe: str = ""
    versions: dict[str, str] = {}
    machine: dict[str, str | int] = {}
