"""The facts of a run, gathered from what its finished stages recorded."""

from cpt.report.facts.gather import gather
from cpt.report.facts.records import RunRecord, StageRecord, TokenizerRecord, TrainingRecord

__all__ = ["RunRecord", "StageRecord", "TokenizerRecord", "TrainingRecord", "gather"]
