"""Draw the report's charts as inline SVG; each function returns None if it has nothing to show."""

from cpt.report.charts.bar import time_by_probe, time_by_stage, tokens_by_part, tokens_by_source
from cpt.report.charts.dumbbell import bits_before_after, tasks_before_after
from cpt.report.charts.gap import stability_gap, task_curve
from cpt.report.charts.heatmap import layer_updates
from cpt.report.charts.histogram import selection_scores
from cpt.report.charts.line import (
    bottom_top,
    drift,
    early_end,
    learning_rate,
    loss_parts,
    new_token_norms,
    rate_factor,
    replay_share,
    tokens_over_time,
    training_loss,
)
from cpt.report.charts.scatter import domain_against_general
from cpt.report.charts.zero_shot import zero_shot

__all__ = [
    "bits_before_after",
    "bottom_top",
    "domain_against_general",
    "drift",
    "early_end",
    "layer_updates",
    "learning_rate",
    "loss_parts",
    "new_token_norms",
    "rate_factor",
    "replay_share",
    "selection_scores",
    "stability_gap",
    "task_curve",
    "tasks_before_after",
    "time_by_probe",
    "time_by_stage",
    "tokens_by_part",
    "tokens_by_source",
    "tokens_over_time",
    "training_loss",
    "zero_shot",
]
