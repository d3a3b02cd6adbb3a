"""Self-distillation: train again from the start, close to what the first training made of the text.

Lee et al. 2023, Self-Distillation for Further Pre-training of Transformers (arXiv 2210.02871), section 3: a
teacher is trained from θ_0; the student starts from θ_0, too, and minimises, over the N targets of a batch,

    L(θ) = 1/N · Σ_t ( -ln P_θ(x_t | x_<t) + weight · ||h_θ(x_<t) - sg(h_T(x_<t))||² )

with the last hidden states h (after the last norm) and no gradient to the teacher. As in the paper the square
is summed over the hidden width and averaged over representations, and its weight is 1; there a representation
stands for a whole sample, here, where every position predicts, for a position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt.training.objectives.base import ObjectiveConfig

if TYPE_CHECKING:
    from cpt.training.objectives.beside import Beside
    from cpt.training.objectives.losses import Loss


class SelfDistillation(ObjectiveConfig):
    """Cross entropy, and the distance of the hidden states from those of a model trained before."""

    kind: Literal["self-distillation"] = Field(
        description="Learn, with hidden states close to those of a model that was trained before."
    )
    teacher: str = Field(
        description="The earlier pretrain stage that made the teacher; this stage starts where that one did."
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        description="Weight of the squared distance between hidden states, summed over their width.",
    )

    @property
    def needs_model_beside(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    def share_beside(self, replay: float) -> float:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        return 1.0

    def beside(self, model: Any, teacher: Any) -> Beside:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.beside import Teacher

        return Teacher(teacher)

    def loss(self, beside: Beside | None) -> Loss:
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.losses import SelfDistillationLoss

        return SelfDistillationLoss(beside.module, self.weight)  # type: ignore[union-attr]
