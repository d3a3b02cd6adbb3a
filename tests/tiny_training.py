"""What tests of training share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from cpt.training.checkpoint.stateful import Stateful
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import DistributedContext
from cpt.training.features.checkpoints import CheckpointManager
from cpt.training.optimizers import (
    AdamW,
    AdamW8bit,
    Apollo,
    ApolloMini,
    Frugal,
    GaLore,
    Muon,
    OptimizerConfig,
)
from cpt.training.optimizers.groups import Group, Kind
from cpt.training.settings import Settings
from cpt.training.state import State


class Row(SimpleNamespace):
    """A sequence of a stream with tokens, lengths of pieces and weights that tests may change."""

    tokens: Any
    piece_lengths: Any
    weights: Any

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def target_weight(self) -> float:
        """The sum of the weights of each piece's tokens but the first."""
        weights = np.ones(len(self.tokens)) if self.weights is None else self.weights.astype(np.float64)
        return float(sum(part[1:].sum() for part in np.split(weights, np.cumsum(self.piece_lengths)[:-1])))

    @property
    def without_loss(self) -> int | None:
        return None if self.weights is None else int((self.weights == 0).sum())


def checkpoint_manager(
    work: Path,
    stateful: Mapping[str, Stateful],
    state: State,
    settings: Settings,
    clock: Callable[[], float] = time.monotonic,
    processes: Any = None,
) -> CheckpointManager:
    """A checkpoint manager of objects with state, in a run without other features."""
    run: Any = SimpleNamespace(
        settings=settings,
        stream=None,
        work=work,
        progress=Said(),
        processes=processes or ProcessGroup(DistributedContext()),
        choice=SimpleNamespace(is_model=True),
        stateful=stateful,
        state=state,
        features_with_state=dict,
    )
    manager = CheckpointManager(settings.config.checkpoint, clock)
    manager.on_start(run)
    return manager


def groups(module: nn.Module) -> list[Group]:
    """The weights of any module: matrices, and norms with biases."""
    weights = dict(module.named_parameters())
    found = [
        Group("matrices", "matrix", {name: p for name, p in weights.items() if p.ndim > 1}),
        Group("norms and biases", "vector", {name: p for name, p in weights.items() if p.ndim <= 1}),
    ]
    return [group for group in found if group.weights]


OPTIMIZERS: list[OptimizerConfig] = [
    AdamW(),
    AdamW8bit(),
    GaLore(rank=4, gap=2),
    Apollo(rank=4, gap=2),
    ApolloMini(gap=2),
    Frugal(gap=2),
    Muon(),
]
"""One of every kind, with projections small and short-lived enough for tiny models."""

UNUSUAL = {"beta1": 0.7, "beta2": 0.8, "eps": 1e-2, "weight_decay": 0.3}
"""Settings that all kinds share, each far from its default."""

KINDS = [config.model_dump()["kind"] for config in OPTIMIZERS]


def moved(
    config: OptimizerConfig,
    start: torch.Tensor,
    gradients: Sequence[torch.Tensor],
    rate: float = 0.1,
    kind: Kind = "matrix",
) -> torch.Tensor:
    """Where an optimizer takes one weight, `w`, by some gradients."""
    weight = nn.Parameter(start.clone())
    optimizer = config.build([Group("all", kind, {"w": weight})])
    for gradient in gradients:
        step(optimizer, [gradient], rate)
    return weight.detach()


def step(optimizer: torch.optim.Optimizer, gradients: Sequence[torch.Tensor], rate: float = 0.1) -> None:
    """One step with given gradients, in the order of the optimizer's weights."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.clone()
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    optimizer.step()


def noise(*shape: int, seed: int = 0, count: int = 1) -> list[torch.Tensor]:
    """Standard normal tensors."""
    stream = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=stream) for _ in range(count)]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show: tag -> (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


class Said:
    """Keeps messages; optionally dies after a step, as a kill would."""

    def __init__(self, die_at: int | None = None) -> None:
        self.messages: list[str] = []
        self.die_at = die_at

    def message(self, text: str) -> None:
        self.messages.append(text)

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.messages.append(f"step {facts['step']}: {facts.get('said', facts)}")

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        if done == self.die_at:
            raise KeyboardInterrupt
