"""What tests of training share."""

from __future__ import annotations

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
