"""What every setting of `objective` has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from cpt.training.objectives.beside import Beside
    from cpt.training.objectives.losses import Loss


class ObjectiveConfig(BaseModel):
    """Base of the settings of what is minimised."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def needs_model_beside(self) -> bool:
        """Whether another model is held, and computes, beside the one that trains."""
        return False

    def share_beside(self, replay: float) -> float:  # noqa: ARG002
        """Share of the tokens that the other model reads, too.

        Args:
            replay: share of replay rows.
        """
        return 0.0

    def beside(self, model: Any, teacher: Any) -> Beside | None:  # noqa: ARG002
        """The model to compare with, if there is one.

        Args:
            model: that will train, before anything is added to it.
            teacher: float32 model of the stage that the settings name; None where they name none.
        """
        return None

    def loss(self, beside: Beside | None) -> Loss:
        """What is minimised.

        Args:
            beside: what the method of this name has given, held already.
        """
        raise NotImplementedError
