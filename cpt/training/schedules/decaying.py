"""Schedules that train at a high rate for most of a run and decay at its end: WSD and power."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from cpt.errors import UsageError
from cpt.training.schedules import curves
from cpt.training.schedules.base import ScheduleConfig, require_room
from cpt.training.schedules.phases import Part, Phase, border, lay_out, warm_up


class _Decaying(ScheduleConfig):
    """Warms up first and decays last."""

    warmup: float = Field(default=0.01, ge=0, lt=1, description="Share of the run spent warming up.")
    decay: Literal["linear", "cosine", "1-sqrt"] = Field(
        default="1-sqrt", description="Curve of the decay at the end."
    )
    decay_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the run spent decaying.")
    min_ratio: float = Field(
        default=0.0, ge=0, le=1, description="Rate of the last step, as a share of the rate before the decay."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        require_room(warmup=self.warmup, decay_share=self.decay_share)
        return self

    def _falls(self) -> Mapping[str, float]:
        return {"decay": self.decay_share}

    def _decay_from(self, rate: float) -> Part:
        fall = curves.FALLS[self.decay]
        return Part("decay", 1.0, lambda t: fall(t, rate, self.min_ratio * rate))


class Wsd(_Decaying):
    """Warm up, stay at the peak, decay (warm-up, stable, decay: Hu et al., arXiv 2404.06395)."""

    kind: Literal["wsd"] = "wsd"
    peak: float = Field(default=1e-4, gt=0, description="Highest learning rate.")

    @property
    def highest(self) -> float:
        return self.peak

    def phases(self, total: int) -> tuple[Phase, ...]:
        return lay_out(
            total,
            warm_up(self.warmup, self.peak),
            Part("stable", 1 - self.decay_share, lambda _: self.peak),
            self._decay_from(self.peak),
        )


class Power(_Decaying):
    """Warm up, follow min(peak, batch · a · tokens^b), decay (Shen et al., arXiv 2408.13359).

    The tokens are those seen so far in this run.
    """

    kind: Literal["power"] = "power"
    peak: float = Field(
        default=0.02,
        gt=0,
        description="Highest learning rate. As published, for models in muP (maximal update "
        "parametrization); for others `cpt plan` warns and offers one.",
    )
    a: float = Field(default=4.6, gt=0, description="Factor of the power law.")
    b: float = Field(default=-0.51, lt=0, description="Exponent of the tokens seen.")
    batch: int | None = Field(default=None, gt=0, description="Sequences of a step; default: the run's.")
    tokens: int | None = Field(default=None, gt=0, description="Tokens of the whole run; default: the run's.")

    @property
    def highest(self) -> float:
        return self.peak

    def for_run(self, batch: int, tokens: int) -> Self:
        return self.model_copy(update={"batch": self.batch or batch, "tokens": self.tokens or tokens})

    def phases(self, total: int) -> tuple[Phase, ...]:
        if self.batch is None or self.tokens is None:
            raise UsageError(
                "the power schedule depends on the tokens of the run and the sequences of a step",
                hint="Give both: tokens and batch.",
            )
        batch, tokens = self.batch, self.tokens
        begins, ends = border(self.warmup, total) / total, border(1 - self.decay_share, total) / total

        def law(share: float) -> float:
            return min(self.peak, curves.power(tokens * share, batch, self.a, self.b))

        return lay_out(
            total,
            warm_up(self.warmup, law(begins)),
            Part("power", 1 - self.decay_share, lambda t: law(begins + t * (ends - begins))),
            self._decay_from(law(ends)),
        )
