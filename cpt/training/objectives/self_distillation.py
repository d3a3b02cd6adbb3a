"""Self-distillation: train again from the start, with hidden states close to those of the first training.

Lee et al. 2023, Self-Distillation for Further Pre-training of Transformers (arXiv 2210.02871), section 3: a
teacher is trained from θ_0; the student starts from θ_0, too, and minimises, over the N targets of a batch,

    L(θ) = 1/N · Σ_t ( -ln P_θ(x_t | x_<t) + weight · ||h_θ(x_<t) - sg(h_T(x_<t))||² )

with the last hidden states h (after the last norm) and no gradient to the teacher. As in the paper the square
is summed over the hidden width and averaged over representations, and its weight is 1; there a representation
stands for a whole sample, here, where every position predicts, for a position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt.training.objectives.base import Loss, ObjectiveConfig

if TYPE_CHECKING:
    import torch

    from cpt.models.batch import PackedBatch
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.training.data import PackedSequence
    from cpt.training.objectives.reference_model import ReferenceModel


class SelfDistillation(ObjectiveConfig):
    """Settings of self-distillation."""

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
    def needs_reference_model(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    @property
    def needs_teacher(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    def reference_share(self, replay: float) -> float:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        return 1.0

    def reference_model(self, model: Any, teacher: Any) -> ReferenceModel:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.reference_model import Teacher

        return Teacher(teacher)

    def loss(self, reference: ReferenceModel | None) -> Loss:
        """See `ObjectiveConfig`."""
        return SelfDistillationLoss(reference.module, self.weight)  # type: ignore[union-attr]


class SelfDistillationLoss:
    """-ln p(next token) + `weight` · ||h - h of the teacher||² of every row.

    Shapes: N targets of a packed row, E hidden width, V rows of the head.
    """

    def __init__(self, teacher: PackedLanguageModel, weight: float) -> None:
        self._teacher, self._weight = teacher, weight

    def kind(self, row: PackedSequence) -> int:  # noqa: ARG002
        """See `Loss`."""
        return 0

    def announce(self, rows: Sequence[PackedSequence]) -> None:
        """See `Loss`."""

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, float]:
        """Return the parts "cross_entropy" and "distance" (squared)."""
        from cpt.training.data import target_weight

        return dict.fromkeys(("cross_entropy", "distance"), target_weight(batch))

    def __call__(
        self,
        module: PackedLanguageModel,
        packed: PackedBatch,
        rows: Sequence[PackedSequence],  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss`."""
        import torch

        from cpt.models.loss import summed_cross_entropy

        with torch.no_grad():
            wanted_NE = self._teacher(packed, lambda hidden_NE, _: hidden_NE)

        def both(hidden_NE: torch.Tensor, head_VE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            labels_N = packed.labels[packed.target_positions]
            nats = summed_cross_entropy(hidden_NE, head_VE, labels_N, packed.weights)
            squares_NE = (hidden_NE.float() - wanted_NE.float()).square()
            if packed.weights is not None:
                squares_NE = squares_NE * packed.weights[:, None]
            return nats, squares_NE.sum()

        nats, distance = module(packed, both)
        return nats + self._weight * distance, torch.stack([nats.detach(), distance.detach()])
