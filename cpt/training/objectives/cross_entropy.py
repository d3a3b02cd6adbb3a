"""Plain next-token cross entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.objectives.base import ObjectiveConfig

if TYPE_CHECKING:
    from cpt.training.objectives.beside import Beside
    from cpt.training.objectives.losses import Loss


class CrossEntropy(ObjectiveConfig):
    """Every row is learned: -ln p(next token)."""

    kind: Literal["cross-entropy"] = Field(
        default="cross-entropy", description="Predict the next token, on every row."
    )

    def loss(self, beside: Beside | None) -> Loss:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.losses import CrossEntropyLoss

        return CrossEntropyLoss()
