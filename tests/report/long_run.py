"""The full example run with its training stretched: many steps, with one spike, and many readings."""

from __future__ import annotations

import dataclasses

from full_run import STEPS, TOKENS_PER_STEP, full_run

from cpt.report.facts import TrainingRecord

SPIKE = 97.0
"""Loss of the one step that stands out."""


def long_training(points: int) -> TrainingRecord:
    """`points` logged steps, and a reading of the general text at every hundredth."""
    training = full_run().training
    assert training is not None
    stretch = points / STEPS
    rows = {int(row["step"]): row for row in training.steps}
    first = min(rows)
    steps = [
        rows[max(first, min(STEPS, int(step / stretch)))] | {"step": step, "tokens": step * TOKENS_PER_STEP}
        for step in range(1, points + 1)
    ]
    steps[int(0.7 * points)]["loss_nats"] = SPIKE
    general = [row for row in training.probes if row["probe"] == "general"]
    others = [row for row in training.probes if row["probe"] != "general"]
    many = [
        general[min(len(general) - 1, int(step / points * len(general)))]
        | {"step": step, "tokens": step * TOKENS_PER_STEP}
        for step in range(0, points + 1, 100)
    ]
    return dataclasses.replace(training, steps=steps, probes=[*others, *many])
