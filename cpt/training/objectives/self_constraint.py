"""Domain self-constraint: cross entropy on domain rows, divergence from the starting model on replay rows.

With D and G the targets of the domain and the replay rows of a global batch, N = |D| + |G|, and P_ref the
model that training starts from:

    L(θ) = 1/N · ( Σ_{t∈D} -ln P_θ(x_t | x_<t) + weight · Σ_{t∈G} KL(P_θ(· | x_<t) || P_ref(· | x_<t)) )

Zhang et al. 2024, Baichuan4-Finance (arXiv 2412.15270), section 3; Chen et al. 2025, MoL (arXiv 2505.12043),
who replace the cross entropy on general rows by the divergence, and advise as many general as domain
rows. Replay text is only read, not learned, so text that the model itself wrote works as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt.sources import REPLAY
from cpt.training.objectives.base import Loss, ObjectiveConfig

if TYPE_CHECKING:
    import torch

    from cpt.models.batch import PackedBatch
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.training.data import PackedSequence
    from cpt.training.objectives.reference_model import ReferenceModel


class SelfConstraint(ObjectiveConfig):
    """Settings of domain self-constraint."""

    kind: Literal["self-constraint"] = Field(
        description="Learn from domain rows; on replay rows stay close to the starting model instead."
    )
    weight: float = Field(
        default=1.0, gt=0, description="Weight of the divergence on replay rows, KL(model || start) in nats."
    )

    @property
    def needs_reference_model(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    def reference_share(self, replay: float) -> float:
        """See `ObjectiveConfig`."""
        return replay

    def reference_model(self, model: Any, teacher: Any) -> ReferenceModel:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        from cpt.training.objectives.reference_model import StartingModel

        return StartingModel(model)

    def loss(self, reference: ReferenceModel | None) -> Loss:
        """See `ObjectiveConfig`."""
        return SelfConstraintLoss(reference.module, self.weight)  # type: ignore[union-attr]


class SelfConstraintLoss:
    """-ln p(next token) of domain rows, `weight` · KL(p || reference) of replay rows.

    Both models get the replay rows alone, in the same packing: with equal weights their logits are equal to
    the bit, and the divergence and its gradient are exactly 0. The reference model does not read domain rows.
    """

    def __init__(self, reference: PackedLanguageModel, weight: float) -> None:
        self._reference, self._weight = reference, weight

    def kind(self, row: PackedSequence) -> int:
        """Return 0 for a domain row, 1 for a replay row."""
        return int(row.source == REPLAY)

    def announce(self, rows: Sequence[PackedSequence]) -> None:
        """See `Loss`."""

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, float]:
        """Return the parts "domain" (cross entropy) and "kl"."""
        from cpt.training.data import target_weight

        by_kind = ([row for row in batch if self.kind(row) == kind] for kind in (0, 1))
        return dict(zip(("domain", "kl"), map(target_weight, by_kind), strict=True))

    def __call__(
        self, module: PackedLanguageModel, packed: PackedBatch, rows: Sequence[PackedSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss`."""
        import torch

        from cpt.models.loss import summed_divergence

        if self.kind(rows[0]) == 0:
            nats = module(packed)
            return nats, torch.stack([nats.detach(), nats.new_zeros(())])
        with torch.no_grad():
            reference = self._reference.states(packed)

        def divergence(hidden_NE: torch.Tensor, head_VE: torch.Tensor) -> torch.Tensor:
            return summed_divergence(hidden_NE, head_VE, *reference, packed.weights)

        nats = module(packed, divergence)
        return self._weight * nats, torch.stack([nats.new_zeros(()), nats.detach()])
