"""Plain next-token cross entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt.training.objectives.base import Loss, ObjectiveConfig

if TYPE_CHECKING:
    import torch

    from cpt.models.batch import PackedBatch
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.training.data import PackedSequence
    from cpt.training.objectives.reference_model import ReferenceModel


class CrossEntropy(ObjectiveConfig):
    """Settings of next-token cross entropy on every row: -ln p(next token)."""

    kind: Literal["cross-entropy"] = Field(
        default="cross-entropy", description="Predict the next token, on every row."
    )

    def loss(self, reference: ReferenceModel | None) -> Loss:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        return CrossEntropyLoss()


class CrossEntropyLoss:
    """-ln p(next token) of every row; it has no parts."""

    def kind(self, row: PackedSequence) -> int:  # noqa: ARG002
        """See `Loss`."""
        return 0

    def announce(self, rows: Sequence[PackedSequence]) -> None:
        """See `Loss`."""

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, float]:  # noqa: ARG002
        """See `Loss`."""
        return {}

    def __call__(
        self,
        module: PackedLanguageModel,
        packed: PackedBatch,
        rows: Sequence[PackedSequence],  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss`."""
        nats = module(packed)
        return nats, nats.new_zeros(0)
