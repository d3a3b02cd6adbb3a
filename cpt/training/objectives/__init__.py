"""What a run minimises: one module for each objective's settings, the losses, and the models beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cpt.training.objectives.base import ObjectiveConfig
from cpt.training.objectives.cross_entropy import CrossEntropy
from cpt.training.objectives.self_constraint import SelfConstraint
from cpt.training.objectives.self_distillation import SelfDistillation

__all__ = ["CrossEntropy", "Objective", "ObjectiveConfig", "SelfConstraint", "SelfDistillation"]


def _cross_entropy_unless_said(given: Any) -> Any:
    return {"kind": "cross-entropy", **given} if isinstance(given, Mapping) else given


Objective = Annotated[
    Annotated[CrossEntropy | SelfConstraint | SelfDistillation, Field(discriminator="kind")],
    BeforeValidator(_cross_entropy_unless_said),
]
"""Settings of what is minimised, told apart by `kind`; without it plain cross entropy."""
