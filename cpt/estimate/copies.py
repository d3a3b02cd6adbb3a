"""Copies of a run's state in host memory: one that is written in the background, and those for roll-backs."""

from __future__ import annotations

from cpt.training.checkpoint.policy import Policy
from cpt.training.settings import Settings


def bytes_of_copies(
    settings: Settings,
    weights: int,
    state: int,
    *,
    is_model: bool,
    sharded: bool = False,
    writes: bool = True,
) -> int:
    """The most bytes of copies that a process holds while a later step is taken.

    `CheckpointManager` has memory for at most two copies, and uses it again. The first snapshot for
    roll-backs is older than `state`.

    Args:
        weights: bytes of the weights that a checkpoint holds.
        state: bytes of what is not there at first: the optimizer's state, and points that gates go back to.
        is_model: See `TrainableSpec`; then one checkpoint stays before annealing.
        sharded: True if weights are sharded: they are copied in either mode.
        writes: it is the process that writes checkpoints.
    """
    copies = settings.checkpoint.mode == "async" or sharded
    saves = writes and copies and _writes_checkpoints(settings, is_model)
    whole = weights + state
    if not settings.anomalies.rolls_back:
        return whole if saves else 0
    snapshots = (settings.steps - 1) // settings.anomalies.snapshot_every
    return min(snapshots + saves, 2) * whole + (weights if snapshots + saves < 2 else 0)


def _writes_checkpoints(settings: Settings, is_model: bool) -> bool:
    policy = Policy(settings.checkpoint, settings.steps, _anneal_begins(settings) if is_model else None)
    return any(policy.due(step) for step in range(1, settings.steps))


def _anneal_begins(settings: Settings) -> int | None:
    """The step before the rate is annealed, as if all steps had as many tokens."""
    if settings.schedule.unit == "steps":
        return settings.schedule.anneal_begins(settings.steps)
    begins = settings.schedule.anneal_begins(settings.tokens)
    return None if begins is None else begins * settings.steps // settings.tokens
