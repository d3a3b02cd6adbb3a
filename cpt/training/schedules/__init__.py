"""Learning-rate schedules: pure functions of progress, one setting `kind` to choose among them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from cpt.training.schedules.base import ScheduleConfig
from cpt.training.schedules.decaying import Power, Wsd
from cpt.training.schedules.falling import Constant, Cosine, Linear, Reuse, RewarmCosine, Rex
from cpt.training.schedules.infinite import Infinite
from cpt.training.schedules.phases import Phase

__all__ = [
    "KINDS",
    "Constant",
    "Cosine",
    "Infinite",
    "Linear",
    "Phase",
    "Power",
    "Reuse",
    "RewarmCosine",
    "Rex",
    "Schedule",
    "ScheduleConfig",
    "Wsd",
]

_Kinds = Constant | Linear | Cosine | RewarmCosine | Infinite | Wsd | Power | Rex | Reuse

KINDS: Mapping[str, type[ScheduleConfig]] = MappingProxyType(
    {cls.model_fields["kind"].default: cls for cls in get_args(_Kinds)}
)
"""Every schedule by its `kind`."""


def _with_kind(data: Any) -> Any:
    """Fill in the default kind of schedule."""
    return {"kind": "rewarm-cosine", **data} if isinstance(data, Mapping) and "kind" not in data else data


Schedule = Annotated[_Kinds, Field(discriminator="kind"), BeforeValidator(_with_kind)]
"""A setting that holds any of the schedules; without `kind` it is `rewarm-cosine`."""
