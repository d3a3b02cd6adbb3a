"""Choose the trainable part of a model: every weight, chosen layers, adapters, or added layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cpt.training.trainable.block_expansion import Expansion
from cpt.training.trainable.full import All
from cpt.training.trainable.layers import Layers
from cpt.training.trainable.lora import Lora
from cpt.training.trainable.spec import Setup


def _all_by_default(given: Any) -> Any:
    return {"kind": "all", **given} if isinstance(given, Mapping) else given


Trainable = Annotated[
    Annotated[All | Lora | Layers | Expansion, Field(discriminator="kind")],
    BeforeValidator(_all_by_default),
]
"""Settings of what trains, distinguished by `kind`; by default every weight trains."""

__all__ = ["All", "Expansion", "Layers", "Lora", "Setup", "Trainable"]
