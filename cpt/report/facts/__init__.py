"""Gather the facts of a run from the records of its finished stages."""

from cpt.report.facts.gather import gather
from cpt.report.facts.records import RunRecord, StageRecord, TokenizerRecord, TrainingRecord

__all__ = ["RunRecord", "StageRecord", "TokenizerRecord", "TrainingRecord", "gather"]
