"""Settings and losses that every `objective` has.

Losses of packed rows are summed over their targets, so that micro batches of any size add up to a batch's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch

    from cpt.models.batch import PackedBatch
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.training.data import PackedSequence
    from cpt.training.objectives.reference_model import ReferenceModel


class Loss(Protocol):
    """A loss, to be averaged over the targets of a global batch."""

    def kind(self, row: PackedSequence) -> int:
        """Return the kind of a row: the model reads rows of different kinds one after the other."""

    def announce(self, rows: Sequence[PackedSequence]) -> None:
        """Begin with work on the CPU for rows that the loss is called with later."""

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, float]:
        """Return the parts of the loss by name, each with the weight of its targets in a global batch."""

    def __call__(
        self, module: PackedLanguageModel, packed: PackedBatch, rows: Sequence[PackedSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss of a sub-batch [], and its P parts, unweighted and detached [P].

        Args:
            module: Model that trains.
            packed: The sub-batch, packed.
            rows: Rows of the sub-batch.
        """


class ObjectiveConfig(BaseModel):
    """Base of the settings of an objective."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def needs_reference_model(self) -> bool:
        """Return True if a reference model is held, and computes, besides the model that trains."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Return True if the reference model comes from another stage, which the settings name `teacher`."""
        return False

    def reference_share(self, replay: float) -> float:  # noqa: ARG002
        """Return the share of the tokens that the reference model reads, too.

        Args:
            replay: Share of replay rows.
        """
        return 0.0

    def reference_model(self, model: Any, teacher: Any) -> ReferenceModel | None:  # noqa: ARG002
        """Return the reference model, if there is one.

        Args:
            model: Model that will train, before adapters or layers are added to it.
            teacher: Float32 model of the stage that the settings name, with `alm` an `AlignedTeacher`; None
                if they name none.
        """
        return None

    def check_first_step(self, parts: Mapping[str, float]) -> str:  # noqa: ARG002
        """Return a warning about the parts of the first step's loss, or nothing.

        Raises:
            StageFailed: the run would learn nothing.
        """
        return ""

    def loss(self, reference: ReferenceModel | None) -> Loss:
        """Return the loss.

        Args:
            reference: Result of `reference_model`, after its `prepare`.
        """
        raise NotImplementedError
