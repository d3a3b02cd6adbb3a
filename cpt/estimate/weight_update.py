"""Record the memory of the optimizer's step, beside its state: phase "update" of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from cpt.training.distributed.shared_work import buffer_bytes
from cpt.training.optimizers.base import FLOAT_BYTES, MatrixConfig, SharedMatrixConfig
from cpt.training.optimizers.groups import Group, is_matrix

if TYPE_CHECKING:
    from cpt.estimate.allocations import Block, Recorder, Timeline
    from cpt.estimate.sharded import SimulatedShards
    from cpt.training.settings import Settings
    from cpt.training.trainable.parameters import TrainableParameters

_PER_AVERAGE = 2.5
"""Bytes of an allocation of ranks over sharded weights, per byte of AdaLoRA's two averages: whole factors and
their gradients, their importance, and two new averages."""


def averages(trained: TrainableParameters) -> Mapping[str, torch.Tensor]:
    """Return the tensors of AdaLoRA's allocation, by name: every process has them whole."""
    return {name: t for name, t in trained.checkpoint_tensors.items() if name not in trained.weights}


def update_replica(
    trained: TrainableParameters,
    groups: Sequence[Group],
    settings: Settings,
    processes: int,
    recorder: Recorder,
    timeline: Timeline,
) -> None:
    """Record a step of whole weights, which have their gradients.

    Args:
        trained: Weights that train.
        groups: The same weights in groups.
        settings: Settings of the run.
        processes: Number of replicas.
        recorder: Recorder of the allocations.
        timeline: Timeline to write to.
    """
    shared = timeline.allocate(_shared_bytes(groups, settings, processes), "optimizer")
    if settings.stochastic_rounding:  # weights are wide when the optimizer moves them
        with recorder.filing_under("weights"):
            _round(trained)
    timeline.release(shared)
    with recorder.filing_under("optimizer"):
        trained.after_step()


def update_shards(
    masters: SimulatedShards, trained: TrainableParameters, settings: Settings, timeline: Timeline
) -> None:
    """Record a step of sharded weights: widened shards, whole matrices and whole factors of AdaLoRA.

    Of a matrix that moves, and of the one that is gathered beside it, weight, gradient and two moments.
    """
    blocks: list[Block] = []
    if settings.stochastic_rounding:
        largest = max(weight.numel() for weight in masters.weights.values())
        wide = FLOAT_BYTES * masters.numbers(masters.weights.values())
        blocks += [timeline.allocate(wide, "weights"), timeline.allocate(2 * largest, "weights")]
    if isinstance(settings.config.optimizer, MatrixConfig):
        matrices = [w for w in trained.weights.values() if w.ndim > 1]
        largest = max((matrix.numel() for matrix in matrices), default=0)
        gathered = min(2, len(matrices))
        blocks.append(timeline.allocate(gathered * 4 * FLOAT_BYTES * largest, "optimizer"))
    held = sum(tensor.nbytes for tensor in averages(trained).values())
    blocks.append(timeline.allocate(int(_PER_AVERAGE * held), "optimizer"))
    for block in blocks:
        timeline.release(block)


def _shared_bytes(groups: Sequence[Group], settings: Settings, processes: int) -> int:
    """Return the bytes of results that replicas send each other; groups move one after the other."""
    optimizer, largest = settings.config.optimizer, 0
    if not isinstance(optimizer, SharedMatrixConfig):
        return 0
    for group in groups:
        shapes = [tuple(w.shape) for w in group.weights.values() if is_matrix(group.kind, w.shape)]
        largest = max(largest, buffer_bytes([optimizer.shared_work(shape) for shape in shapes], processes))
    return largest


def _round(trained: TrainableParameters) -> None:
    """Widen the weights and round them stochastically, around a step of plain SGD."""
    optimizer = torch.optim.SGD(trained.weights.values(), lr=0.0, foreach=False)
    trained.register_hooks(optimizer)
    optimizer.step()
