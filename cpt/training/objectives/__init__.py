"""Objectives: one module each, with its settings and its loss; and the reference models that some need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cpt.training.objectives.alm import Alm
from cpt.training.objectives.base import ObjectiveConfig
from cpt.training.objectives.cross_entropy import CrossEntropy
from cpt.training.objectives.self_constraint import SelfConstraint
from cpt.training.objectives.self_distillation import SelfDistillation

__all__ = ["Alm", "CrossEntropy", "Objective", "ObjectiveConfig", "SelfConstraint", "SelfDistillation"]


def _cross_entropy_by_default(given: Any) -> Any:
    return {"kind": "cross-entropy", **given} if isinstance(given, Mapping) else given


Objective = Annotated[
    Annotated[CrossEntropy | SelfConstraint | SelfDistillation | Alm, Field(discriminator="kind")],
    BeforeValidator(_cross_entropy_by_default),
]
"""Settings of any objective, distinguished by `kind`; plain cross entropy by default."""
