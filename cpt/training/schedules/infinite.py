"""Infinite schedules: a constant rate that later runs go on with, from before the last fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from cpt.training.schedules.base import ScheduleConfig, require_order, require_room
from cpt.training.schedules.curves import FALLS, exponential
from cpt.training.schedules.phases import Part, Phase, lay_out, warm_up

_WARMUP = 0.01


class Infinite(ScheduleConfig):
    """Warm up, cool down to a constant rate, stay, anneal; later runs continue from before the anneal.

    Ibrahim et al. (arXiv 2403.08763), Singh et al. (arXiv 2503.02844). With `continues` a run starts at the
    constant rate: give it the weights of the earlier run's checkpoint before the anneal.
    """

    kind: Literal["infinite"] = "infinite"
    peak: float = Field(default=3e-4, gt=0, description="Highest learning rate, after the warm-up.")
    constant: float = Field(default=1.65e-4, gt=0, description="Learning rate of the constant phase.")
    floor: float = Field(default=3e-5, gt=0, description="Learning rate of the last step.")
    warmup: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of the run spent warming up; default: 0.01, or none if it continues, as published "
        "(0.01 then, too, is kinder to an optimizer that starts afresh).",
    )
    cooldown: Literal["cosine", "inverse-sqrt"] = Field(
        default="cosine", description="Curve from the peak to the constant rate."
    )
    cooldown_share: float = Field(default=0.6, ge=0, lt=1, description="Share of the run spent cooling down.")
    anneal_share: float = Field(default=0.15, ge=0, lt=1, description="Share of the run spent annealing.")
    continues: bool = Field(
        default=False,
        description="Start at the constant rate, without cooldown; a warm-up rises to it.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        peak = {} if self.continues else {"peak": self.peak}  # of the run before, which is not known here
        require_order(floor=self.floor, constant=self.constant, **peak)
        require_room(warmup=self.warmup_share, cooldown_share=self._cooldown, anneal_share=self.anneal_share)
        if self.continues:
            for name in ("peak", "cooldown", "cooldown_share"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"a run that continues has no {name}: it starts at the constant rate (`constant`)"
                    )
        return self

    @property
    def highest(self) -> float:
        return self.constant if self.continues else self.peak

    @property
    def warmup_share(self) -> float:
        if self.warmup is None:
            return 0.0 if self.continues else _WARMUP
        return self.warmup

    @property
    def _cooldown(self) -> float:
        return 0.0 if self.continues else self.cooldown_share

    def _falls(self) -> Mapping[str, float]:
        return {"cooldown": self._cooldown, "anneal": self.anneal_share}

    def phases(self, total: int) -> tuple[Phase, ...]:
        cooldown = FALLS[self.cooldown]
        return lay_out(
            total,
            warm_up(self.warmup_share, self.highest),
            Part(
                "cooldown",
                self.warmup_share + self._cooldown,
                lambda t: cooldown(t, self.peak, self.constant),
            ),
            Part("constant", 1 - self.anneal_share, lambda _: self.constant),
            Part("anneal", 1.0, lambda t: exponential(t, self.constant, self.floor)),
        )
