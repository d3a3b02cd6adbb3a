"""Losses of packed rows, summed over their targets, so that micro batches of any size add up to a batch's.

Shapes: N targets of a packed row, E hidden width, V rows of the head, P parts of a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from cpt.models.batch import PackedBatch
from cpt.models.cross_entropy import summed_cross_entropy
from cpt.models.divergence import summed_divergence
from cpt.models.packed_model import PackedLanguageModel
from cpt.sources import REPLAY
from cpt.training.data import PackedSequence, target_count

"""Source of the rows that are there against forgetting."""


class Loss(Protocol):
    """What is minimised, over the number of targets of a global batch."""

    def split(self, rows: Sequence[PackedSequence]) -> list[Sequence[PackedSequence]]:
        """The rows of a micro batch, in lots that go through the model one after the other."""

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, int]:
        """The parts of the loss by name, each with the targets of a global batch that it is a mean over."""

    def __call__(
        self, module: PackedLanguageModel, packed: PackedBatch, rows: Sequence[PackedSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a lot, summed over its targets [], and its parts, not weighted and detached [P].

        Args:
            rows: that are packed.
        """


class CrossEntropyLoss:
    """-ln p(next token) of every row; it has no parts."""

    def split(self, rows: Sequence[PackedSequence]) -> list[Sequence[PackedSequence]]:
        """See `Loss`."""
        return [rows]

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, int]:  # noqa: ARG002
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


class SelfConstraintLoss:
    """-ln p(next token) of domain rows, `weight` · KL(p || reference) of replay rows.

    Both models get the replay rows alone, and alike: where their weights are equal, so are their logits, to
    the bit, and the divergence and its gradient are exactly 0. Domain rows cost the reference nothing.
    """

    def __init__(self, reference: PackedLanguageModel, weight: float) -> None:
        self._reference, self._weight = reference, weight

    def split(self, rows: Sequence[PackedSequence]) -> list[Sequence[PackedSequence]]:
        """Domain rows, and replay rows."""
        return [lot for lot in _by_purpose(rows) if lot]

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, int]:
        """The parts "domain" (cross entropy) and "kl"."""
        return dict(zip(("domain", "kl"), map(target_count, _by_purpose(batch)), strict=True))

    def __call__(
        self, module: PackedLanguageModel, packed: PackedBatch, rows: Sequence[PackedSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss`."""
        if rows[0].source != REPLAY:
            nats = module(packed)
            return nats, torch.stack([nats.detach(), nats.new_zeros(())])
        with torch.no_grad():
            reference = self._reference.states(packed)
        nats = summed_divergence(*module.states(packed), *reference)
        return self._weight * nats, torch.stack([nats.new_zeros(()), nats.detach()])


class SelfDistillationLoss:
    """-ln p(next token) + `weight` · ||h - h of the teacher||² of every row."""

    def __init__(self, teacher: PackedLanguageModel, weight: float) -> None:
        self._teacher, self._weight = teacher, weight

    def split(self, rows: Sequence[PackedSequence]) -> list[Sequence[PackedSequence]]:
        """See `Loss`."""
        return [rows]

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, int]:
        """The parts "cross_entropy" and "distance" (squared)."""
        return dict.fromkeys(("cross_entropy", "distance"), target_count(batch))

    def __call__(
        self,
        module: PackedLanguageModel,
        packed: PackedBatch,
        rows: Sequence[PackedSequence],  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss`."""
        with torch.no_grad():
            wanted_NE = self._teacher.states(packed)[0]
        hidden_NE, head_VE = module.states(packed)
        nats = summed_cross_entropy(hidden_NE, head_VE, packed.labels[packed.learned])
        distance = (hidden_NE.float() - wanted_NE.float()).square().sum()
        return nats + self._weight * distance, torch.stack([nats.detach(), distance.detach()])


def _by_purpose(rows: Sequence[PackedSequence]) -> tuple[list[PackedSequence], list[PackedSequence]]:
    """Rows to learn from, and rows against forgetting."""
    general = [row for row in rows if row.source == REPLAY]
    return [row for row in rows if row.source != REPLAY], general
