"""Optimizers: one module each, with its settings and its update rule.

Every optimizer moves embeddings, norms and biases by AdamW; they differ in what they do with matrices. The
modules import torch only when an optimizer is built, so that a recipe can be checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from cpt.training.optimizers.adamw import AdamW
from cpt.training.optimizers.adamw_8bit import AdamW8bit
from cpt.training.optimizers.apollo import Apollo, ApolloMini
from cpt.training.optimizers.base import OptimizerConfig
from cpt.training.optimizers.frugal import Frugal
from cpt.training.optimizers.galore import GaLore
from cpt.training.optimizers.muon import Muon

if TYPE_CHECKING:
    import torch


_KINDS: dict[Any, type[OptimizerConfig]] = {
    config.model_fields["kind"].default: config
    for config in (AdamW, AdamW8bit, GaLore, Apollo, ApolloMini, Frugal, Muon)
}


def _with_kind(settings: Any) -> Any:
    """Fill in `kind: adamw`, and refuse a setting of another kind by the name of that kind."""
    if not isinstance(settings, dict):
        return settings
    settings = {"kind": "adamw", **settings}
    chosen = _KINDS.get(settings["kind"]) if isinstance(settings["kind"], str) else None
    for key in settings if chosen else ():
        owners = [kind for kind, config in _KINDS.items() if key in config.model_fields]
        if owners and settings["kind"] not in owners:
            raise ValueError(f"`{key}` is a setting of {', '.join(owners)}; the kind is {settings['kind']}")
    return settings


Optimizer = Annotated[
    AdamW | AdamW8bit | GaLore | Apollo | ApolloMini | Frugal | Muon,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
"""Settings of any optimizer, distinguished by `kind`; AdamW by default."""


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of state that an optimizer holds; all of it exists after the first step."""
    return sum(
        value.numel() * value.element_size() for state in optimizer.state.values() for value in state.values()
    )


__all__ = [
    "AdamW",
    "AdamW8bit",
    "Apollo",
    "ApolloMini",
    "Frugal",
    "GaLore",
    "Muon",
    "Optimizer",
    "OptimizerConfig",
    "state_bytes",
]
