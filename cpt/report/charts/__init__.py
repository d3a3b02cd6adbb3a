"""The report's charts, each one inline SVG made from the facts; None where there is nothing to show."""

from cpt.report.charts.bars import time_by_probe, time_by_stage, tokens_by_part, tokens_by_source
from cpt.report.charts.control import rate_factor, replay_share
from cpt.report.charts.dumbbells import bits_before_after, tasks_before_after
from cpt.report.charts.gap import stability_gap, task_curve
from cpt.report.charts.layers import bottom_top, layer_updates
from cpt.report.charts.lines import drift, early_end, new_token_norms, tokens_over_time
from cpt.report.charts.path import domain_against_general
from cpt.report.charts.training import learning_rate, loss_parts, training_loss

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
    "stability_gap",
    "task_curve",
    "tasks_before_after",
    "time_by_probe",
    "time_by_stage",
    "tokens_by_part",
    "tokens_by_source",
    "tokens_over_time",
    "training_loss",
]
