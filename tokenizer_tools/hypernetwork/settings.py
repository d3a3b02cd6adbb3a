"""Settings of a hypernetwork: its variant and its size."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Variant = Literal["residual", "zett"]

_OF_RESIDUAL = ("residual", "residual_scale")
_HEAD_WIDTH = 64


class HypernetworkConfig(BaseModel):
    """The architecture of a hypernetwork."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Variant = Field(
        default="residual",
        description="`residual` predicts a change of a row of the pieces, and starts as a copy; `zett` "
        "predicts the row itself, as in the paper.",
    )
    layers: int = Field(default=3, ge=1, description="Number of encoder layers.")
    hidden: int | None = Field(
        default=None, gt=0, description="Width of the encoder; by default the width of the source rows."
    )
    heads: int | None = Field(
        default=None, gt=0, description="Number of attention heads; by default one per 64 of the width."
    )
    feed_forward: int = Field(
        default=2, ge=1, description="Width of the feed-forward layers, as a multiple of the encoder's width."
    )
    pieces: int = Field(
        default=7, ge=1, description="Largest number of pieces of a token that are read; more are cut off."
    )
    residual: Literal["first", "mean"] = Field(
        default="first",
        description="Row that `residual` changes: that of the first piece, or the mean of all pieces.",
    )
    residual_scale: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Scale of the change that `residual` predicts, in standard deviations of the source "
        "rows over the square root of their width.",
    )

    @model_validator(mode="after")
    def _fits_variant(self) -> HypernetworkConfig:
        fields = type(self).model_fields
        if self.variant != "residual":
            for name in _OF_RESIDUAL:
                if getattr(self, name) != fields[name].default:
                    raise ValueError(f"{name} goes with variant residual, not with {self.variant}")
        if self.hidden is not None:
            self.sizes(self.hidden)
        return self

    def sizes(self, width: int) -> tuple[int, int]:
        """Return the encoder's width and number of heads for source rows of a width.

        Raises:
            ValueError: The heads do not divide the encoder's width.
        """
        hidden = self.hidden or width
        heads = self.heads or max(1, hidden // _HEAD_WIDTH)
        if hidden % heads:
            raise ValueError(f"{heads} heads do not divide the encoder's width {hidden}: set heads or hidden")
        return hidden, heads
