"""Domain self-constraint: learn from domain rows, and on general rows stay what the model was.

With D and G the targets of the domain and the replay rows of a global batch, N = |D| + |G|, and P_ref the
model that training starts from:

    L(θ) = 1/N · ( Σ_{t∈D} -ln P_θ(x_t | x_<t) + weight · Σ_{t∈G} KL(P_θ(· | x_<t) || P_ref(· | x_<t)) )

Zhang et al. 2024, Baichuan4-Finance (arXiv 2412.15270), section 3; Chen et al. 2025, MoL (arXiv 2505.12043),
who put the divergence in the place of the cross entropy on general rows, and advise as many general rows as
domain ones. Replay text is only read, not learned, so text that the model itself wrote does as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt.training.objectives.base import ObjectiveConfig

if TYPE_CHECKING:
    from cpt.training.objectives.beside import Beside
    from cpt.training.objectives.losses import Loss


class SelfConstraint(ObjectiveConfig):
    """Cross entropy on domain rows, divergence from the starting model on replay rows."""

    kind: Literal["self-constraint"] = Field(
        description="Learn from domain rows; on replay rows stay close to the starting model instead."
    )
    weight: float = Field(
        default=1.0, gt=0, description="Weight of the divergence on replay rows, KL(model || start) in nats."
    )

    @property
    def needs_model_beside(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    def share_beside(self, replay: float) -> float:
        """See `ObjectiveConfig`."""
        return replay

    def beside(self, model: Any, teacher: Any) -> Beside:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.beside import ReferenceModel

        return ReferenceModel(model)

    def loss(self, beside: Beside | None) -> Loss:
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.losses import SelfConstraintLoss

        return SelfConstraintLoss(beside.module, self.weight)  # type: ignore[union-attr]
