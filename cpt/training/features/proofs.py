"""Prove in every run that documents do not see each other, and that exactly what should train does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Self

from cpt.errors import StageFailed
from cpt.training.feature import Run, StepOutcome, TrainingFeature

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from cpt.models.packed_model import PackedLanguageModel
    from cpt.training.settings import TrainingConfig
    from cpt.training.trainable.parameters import TrainableParameters

_TOLERANCE = 1e-3
_MOVES = 2.0**-20
"""A step of this rate, relative to a weight's usual size, moves some of it in float32, which resolves 2^-24:
even where gradients, behind a factor that was zero, are still far below what an optimizer divides them by."""


class TrainingProofs(TrainingFeature):
    """The proofs of a run: isolation of documents at its start, movement of weights in its first steps."""

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:  # noqa: ARG003
        return cls()

    def on_start(self, run: Run) -> None:
        from cpt.training.data import pieces
        from cpt.training.float8 import plain_products

        found = (piece for row in run.stream.batch(0) for piece in pieces(row) if len(piece) > 1)
        if len(two := list(islice(found, 2))) == 2:
            with plain_products(run.model):  # in float8 the documents of a row share a rounding
                check_isolation(run.module, *two)

    def on_resume(self, run: Run) -> None:
        # stochastic rounding may leave a small tensor where it was: nothing is proven then
        self._movement = None if run.settings.stochastic_rounding else MovementProof(run.trained, run.model)

    def before_step(self, run: Run) -> None:
        if self._movement:
            self._movement.begin(run.state.step)

    def after_step(self, run: Run, step: StepOutcome) -> None:
        if run.state.step == 1 and (
            warning := run.settings.config.objective.check_first_step(step.gradient.parts)
        ):
            run.progress.message(warning)
        if self._movement and step.anomaly is None:
            self._movement.stepped(step.rate)
        elif self._movement:
            self._movement.interrupted()

    def on_rollback(self, run: Run) -> None:  # noqa: ARG002
        if self._movement:
            self._movement.interrupted()


def check_isolation(model: PackedLanguageModel, first: np.ndarray, second: np.ndarray) -> None:
    """Change every token of one packed document, and raise if the loss of the other moves.

    Args:
        first, second: token ids of two documents.

    Raises:
        StageFailed: the documents see each other.
    """
    import numpy as np

    from cpt.models.batch import pack

    device = next(model.parameters()).device
    changed = np.roll(first, 1)
    changed[:] = changed[0] if (changed != changed[0]).any() else (changed[0] + 1) % int(first.max() + 2)
    losses = [
        model.per_token_loss(pack([document, second]).to(device))[len(first) :]
        for document in (first, changed)
    ]
    difference = float((losses[0] - losses[1]).abs().max())
    if difference > _TOLERANCE:
        raise StageFailed(
            f"packed documents see each other: changing one moved the next's loss by {difference:.3g} nats",
            hint="The model's architecture does not use the attention within documents; please report it.",
        )


class MovementProof:
    """A proof that exactly what should move does: in the first steps, and again when more begins to move.

    `begin` comes before each step and `stepped` after it. Earlier weights are remembered as digests. A weight
    that a warm-up's first rates are too small to move in float32 is proven once they are large enough.
    """

    def __init__(self, trained: TrainableParameters, model: nn.Module) -> None:
        self._trained, self._model = trained, model
        self._rates = {name: group.rate for group in trained.groups(model) for name in group.weights}
        self._left = 0
        self._able: dict[str, int] = {}
        self._moving: dict[str, torch.Tensor] = {}
        self._still: dict[str, torch.Tensor] = {}

    def begin(self, step: int) -> None:
        """Take digests before a step (0 is the first) for which `trained` is set, if a proof is due.

        A run that continues in the middle of the steps that prove it proves the rest of them.
        """
        starts = {0, self._trained.first_steps}
        due = max(
            (start + self._trained.settling_steps - step for start in starts if start <= step), default=0
        )
        if due > 0 and (self._left == 0 or step in starts):
            self._left = due
            self._moving = {name: _digest(weight) for name, weight in self._trained.must_move().items()}
            self._still = self._still_digests()
            self._able = dict.fromkeys(self._moving, 0)

    def interrupted(self) -> None:
        """Start the proof again after a step that was dropped, or rolled back with others."""
        if self._left:
            self._left = self._trained.settling_steps
            self._able = dict.fromkeys(self._able, 0)

    def stepped(self, rate: float) -> None:
        """Count a step taken at a learning rate; a step of rate 0 proves nothing.

        Raises:
            StageFailed: something that trains did not move, or something that is frozen did.
        """
        if self._left == 0 or rate == 0:
            return
        weights = self._trained.must_move()
        for name in self._moving:
            self._able[name] += rate * self._rates[name] > _MOVES * _usual_size(weights[name])
        self._left -= 1
        if self._left == 0:
            self._prove()

    def _prove(self) -> None:
        import torch

        weights = self._trained.must_move()
        unmoved = [name for name, value in self._moving.items() if torch.equal(value, _digest(weights[name]))]
        waiting = [name for name in unmoved if self._able[name] < self._trained.settling_steps]
        still = self._still_digests() if self._still else {}
        moved = [name for name, value in still.items() if not torch.equal(value, self._still[name])]
        _refuse([name for name in unmoved if name not in waiting], "left {} trainable tensors unchanged")
        _refuse(moved, "changed {} frozen tensors")
        self._moving, self._still = {name: self._moving[name] for name in waiting}, {}
        self._left = int(bool(waiting))

    def _still_digests(self) -> dict[str, torch.Tensor]:
        still = {}
        for name, (tensor, free) in self._trained.frozen_tensors(self._model).items():
            still[name] = _digest(tensor)
            still[name][free] = 0
        return still


def _digest(weight: torch.Tensor) -> torch.Tensor:
    from cpt.training.distributed.tensors import whole

    return digest(whole(weight))


def _usual_size(weight: torch.Tensor) -> float:
    """Return the mean absolute value of a weight's numbers."""
    from cpt.training.distributed.tensors import whole

    return float(whole(weight).detach().abs().mean())


def _refuse(names: Sequence[str], what: str) -> None:
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise StageFailed(f"the first steps {what.format(len(names))}: {shown}")


_AT_ONCE = 2**22


def digest(tensor: torch.Tensor) -> torch.Tensor:
    """Return a number for every row (first dimension) that changes almost surely with any bit of it: [rows].

    It is the sum of the row's bit patterns, each times an odd number that depends on its place, modulo 2^64.
    """
    import torch

    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    count = len(tensor) if tensor.ndim else 1
    bits = tensor.detach().contiguous().view(-1).view(integers[tensor.element_size()])
    bits = bits.view(count, tensor.numel() // max(count, 1))
    factors = (2 * torch.arange(bits.shape[1], device=bits.device) + 1) * 0x9E3779B97F4A7C1
    parts = bits.split(max(1, _AT_ONCE // max(1, bits.shape[1])))
    return torch.cat([(part.long() * factors).sum(1) for part in parts])
