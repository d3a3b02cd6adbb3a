"""What tests of training share."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from cpt.training.groups import Group


def groups(module: nn.Module) -> list[Group]:
    """The weights of any module: matrices, and norms with biases."""
    weights = dict(module.named_parameters())
    found = [
        Group("matrices", "matrix", {name: p for name, p in weights.items() if p.ndim > 1}),
        Group("norms and biases", "vector", {name: p for name, p in weights.items() if p.ndim <= 1}),
    ]
    return [group for group in found if group.weights]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show: tag -> (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
