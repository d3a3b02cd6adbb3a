"""What of a model trains: everything, adapters, chosen layers, or layers that are added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cpt.training.trainable.base import Setup
from cpt.training.trainable.everything import All
from cpt.training.trainable.expansion import Expansion
from cpt.training.trainable.layers import Layers
from cpt.training.trainable.lora import Lora


def _everything_unless_said(given: Any) -> Any:
    return {"kind": "all", **given} if isinstance(given, Mapping) else given


Trains = Annotated[
    Annotated[All | Lora | Layers | Expansion, Field(discriminator="kind")],
    BeforeValidator(_everything_unless_said),
]
"""Settings of what trains, told apart by `kind`; without it everything trains."""

__all__ = ["All", "Expansion", "Layers", "Lora", "Setup", "Trains"]
