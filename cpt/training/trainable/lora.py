"""Low-rank adapters train; afterwards they are merged into the weights.

Hu et al. 2021, LoRA (arXiv 2106.09685); Kalajdzievski 2023, rsLoRA (2312.03732); Liu et al. 2024, DoRA
(2402.09353); Zhang et al. 2023, AdaLoRA (2303.10512).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from cpt.training.trainable.base import NEW_OR_NONE, AdapterRates, Rows, Setup, Strict, TrainsConfig

if TYPE_CHECKING:
    from cpt.training.trainable.choice import Choice


class Allocation(Strict):
    """How AdaLoRA's budget of ranks shrinks, and where it goes (section 3.3 of the paper)."""

    initial_rank: int | None = Field(
        default=None,
        gt=1,
        description="Rank of every adapter at first; default: 1.5 times `rank`.",
    )
    initial: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the steps before ranks are taken; at least two steps.",
    )
    final: float = Field(
        default=0.3, ge=0, lt=1, description="Share of the steps, at the end, in which the ranks stay."
    )
    every: int = Field(default=10, gt=0, description="Steps between two allocations in between.")
    orthogonality: float = Field(
        default=0.5, ge=0, description="Weight of the penalty on factors that are not orthogonal."
    )


class Lora(TrainsConfig):
    """Adapters beside the layers' matrices train, the matrices do not.

    In continual pretraining updates are of high rank: Biderman et al. 2024 (arXiv 2405.09673) find that LoRA
    learns less there and forgets less, and advise large ranks on all matrices.
    """

    kind: Literal["lora"] = Field(description="Low-rank adapters train.")
    variant: Literal["lora", "rslora", "dora", "adalora"] = Field(
        default="rslora",
        description="lora: scale alpha/rank; rslora: alpha/√rank; dora: magnitudes train apart; "
        "adalora: the rank moves to where it matters.",
    )
    rank: int = Field(default=256, gt=0, description="Rank of the adapters; of adalora the mean at the end.")
    alpha: float | None = Field(
        default=None,
        gt=0,
        description="Numerator of the adapters' scale; default: what makes the scale 1.",
    )
    targets: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of matrices that get adapters (q_proj); default: all but the output embedding.",
    )
    embeddings: Rows | None = Field(
        default=None,
        description=f"Which rows of the embeddings train, whole: none, new tokens', or all; {NEW_OR_NONE}",
    )
    allocation: Allocation | None = Field(
        default=None, description="How AdaLoRA allocates ranks; only with variant: adalora."
    )
    rates: AdapterRates = Field(default=AdapterRates(), description="Multiples of the schedule's rate.")

    @model_validator(mode="before")
    @classmethod
    def _no_dropout(cls, given: Any) -> Any:
        if isinstance(given, dict) and "dropout" in given:
            raise ValueError("adapters have no dropout: continual pretraining goes without it")
        return given

    @model_validator(mode="after")
    def _allocation_of_adalora(self) -> Lora:
        if self.variant != "adalora":
            if self.allocation is not None:
                raise ValueError(f"allocation goes with variant: adalora, not with {self.variant}")
        elif self.initial_rank <= self.rank:
            raise ValueError(f"initial_rank {self.initial_rank} is not above rank {self.rank}")
        return self

    @property
    def initial_rank(self) -> int:
        """Rank of every adapter before AdaLoRA takes any."""
        given = self.allocation.initial_rank if self.allocation else None
        return given or -(-3 * self.rank // 2)

    def choose(self, model: Any, setup: Setup) -> Choice:
        """See `TrainsConfig`. Puts the adapters around the model's matrices."""
        from cpt.training.trainable.adapter import add_adapter

        return add_adapter(model, self, setup)
