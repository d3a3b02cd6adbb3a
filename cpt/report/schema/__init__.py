"""The facts of a run, as `report.json` holds them. Losses are in bits per byte unless the name says nats."""

from cpt.report.schema.base import BAND, Fact, Interval
from cpt.report.schema.facts import Facts
from cpt.report.schema.making import Documents, Merge, MergedModel, SearchPoint, Split, StageFact, Vocabulary
from cpt.report.schema.probes import Continual, CurvePoint, Dip, Probe, ProbeTraining, TaskCurve
from cpt.report.schema.scores import (
    Compared,
    LeftOut,
    Retained,
    SuiteAverage,
    Suites,
    SuiteTask,
    Task,
)
from cpt.report.schema.training import Ended, SchedulePhase, Trained, Training, TrainingPoint
from cpt.report.schema.vectors import Vector, VectorGrid, VectorPair, VectorParts, VectorRows, Vectors
from cpt.report.schema.watching import (
    WORST_FIRST,
    Action,
    ControlPoint,
    Gate,
    LayerUpdates,
    MonitorCost,
    NewTokens,
    ProbeCost,
    Sample,
    SourceTokens,
    Watched,
)

__all__ = [
    "BAND",
    "WORST_FIRST",
    "Action",
    "Compared",
    "Continual",
    "ControlPoint",
    "CurvePoint",
    "Dip",
    "Documents",
    "Ended",
    "Fact",
    "Facts",
    "Gate",
    "Interval",
    "LayerUpdates",
    "LeftOut",
    "Merge",
    "MergedModel",
    "MonitorCost",
    "NewTokens",
    "Probe",
    "ProbeCost",
    "ProbeTraining",
    "Retained",
    "Sample",
    "SchedulePhase",
    "SearchPoint",
    "SourceTokens",
    "Split",
    "StageFact",
    "SuiteAverage",
    "SuiteTask",
    "Suites",
    "Task",
    "TaskCurve",
    "Trained",
    "Training",
    "TrainingPoint",
    "Vector",
    "VectorGrid",
    "VectorPair",
    "VectorParts",
    "VectorRows",
    "Vectors",
    "Vocabulary",
    "Watched",
]
