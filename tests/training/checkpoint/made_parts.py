"""Parts of a small run, for the tests of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.stateful import OptimizerState, Stateful, WeightState
from cpt.training.master_weights import MasterWeights
from cpt.training.optimizers import AdamW
from cpt.training.optimizers.groups import Group


class Pattern:
    """What an adapter might register: a rank for each matrix, and a tensor."""

    def __init__(self) -> None:
        self.ranks, self.scores = {"a": 8}, torch.zeros(3)

    def state_dict(self) -> Mapping[str, Any]:
        return {"ranks": self.ranks, "scores": self.scores}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.ranks = dict(saved["ranks"])
        self.scores.copy_(saved["scores"].clone())


class Made:
    """A module and an optimizer after some steps, as parts."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
        self.master_weights = MasterWeights(self.module, dtype)
        self.optimizer = AdamW().build([Group("all", "matrix", self.master_weights.weights)])
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1
        self.pattern = Pattern()
        self.parts: dict[str, Stateful] = {
            "weights": WeightState(self.master_weights.weights, self.master_weights.sync_to_model),
            "optimizer": OptimizerState(self.optimizer, self.master_weights.weights),
            "pattern": self.pattern,
        }

    def train(self) -> None:
        """One step."""
        self.module(
            torch.randn(5, 4).to(next(self.module.parameters()).dtype)
        ).float().square().sum().backward()
        self.master_weights.accumulate_grads()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.master_weights.sync_to_model()
        self.pattern.scores += 1
        self.pattern.ranks["a"] -= 1

    def snapshot(self, step: int = 0) -> Snapshot:
        return Snapshot.of(self.parts, step)


def equal(a: Snapshot, b: Snapshot) -> bool:
    """Whether two snapshots hold the same, to the bit."""
    return (
        (a.step, a.data) == (b.step, b.data)
        and {name: set(part) for name, part in a.tensors.items()} == {n: set(p) for n, p in b.tensors.items()}
        and all(
            torch.equal(t.clone(), b.tensors[name][key].clone())
            for name, p in a.tensors.items()
            for key, t in p.items()
        )
    )
