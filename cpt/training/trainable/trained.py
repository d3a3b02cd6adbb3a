"""The weights that train, step by step: which of them move now, and what follows a move."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cpt.training.groups import NEW_ROWS, NEW_TOKENS, Group, group_weights
from cpt.training.master import Weights
from cpt.training.trainable.choice import Choice
from cpt.training.trainable.new_rows import NewRows


class Trained:
    """What the optimizer moves, in float32, behind a model in its working precision.

    A step is `begin`, the backward passes with `collect` after each, `restrict`, the optimizer's step and
    `stepped`, all before the gradients are cleared. What happens in a step follows from its number alone.

    Attributes:
        weights: what the optimizer moves, by name.
        kept: what a checkpoint must hold besides the optimizer's state; `publish` after restoring it.
    """

    def __init__(self, choice: Choice, master_weights: Weights) -> None:
        """Take over the masters of a model on which `choice` was made."""
        self._choice, self._master, self._step = choice, master_weights, 0
        self._rows = NewRows(
            {name: master_weights.weights[name] for name in choice.new_rows}, choice.new_tokens
        )
        whole = {name: p for name, p in master_weights.weights.items() if choice.new_rows.get(name, True)}
        self.weights: Mapping[str, nn.Parameter] = {**whole, **self._rows.weights}
        self._ranks = choice.adapter.allocation(self.weights) if choice.adapter else None
        self.kept: Mapping[str, torch.Tensor] = {
            **self.weights,
            **(self._ranks.state if self._ranks else {}),
        }

    @property
    def masters(self) -> Mapping[str, nn.Parameter]:
        """Where `collect` brings the gradients: whole matrices, also where only rows of them train."""
        return self._master.weights

    def groups(self, model: Any) -> list[Group]:
        """The weights in groups, each with its rate."""
        return group_weights(model, self.weights, self._choice.rates)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Take part in the optimizer's steps."""
        self._master.attach(optimizer)

    def begin(self, step: int) -> None:
        """Set the step that is to be taken; 0 is the first. What does not move in it gets no gradient."""
        self._step = step
        if self.alone:
            for name in self._master.weights:
                moves = step >= self.alone or name in self._choice.new_rows
                self._master.parameters[name].requires_grad_(moves)

    def rate(self, group: Mapping[str, Any]) -> float:
        """Multiple of the schedule's rate at which a group of the optimizer moves in this step."""
        if not self.alone or group["name"] == NEW_TOKENS:
            return float(group["multiple"])
        warm = (self._step - self.alone + 1) / self._choice.late_warmup
        return float(group["multiple"]) * min(max(warm, 0.0), 1.0)

    def collect(self) -> None:
        """After each backward pass: bring the model's gradients to the weights."""
        self._master.collect()

    def restrict(self) -> None:
        """After a step's last backward pass: leave gradients only on what moves in this step."""
        self._rows.take_gradients()
        moving = self.moving()
        for name, weight in self._master.weights.items():
            if name not in moving:
                weight.grad = None
        if self._ranks:
            self._ranks.regularise()

    def stepped(self) -> None:
        """After the optimizer moved the weights, while their gradients are there."""
        if self._ranks:
            self._ranks.allocate(self._step + 1)
        self.publish()

    def publish(self) -> None:
        """Bring the weights into the model: after every change of them."""
        self._rows.write()
        self._master.publish()

    def release(self, model: Any, adapter_folder: Path | None) -> None:
        """Make the model a plain float32 one with the trained weights, to be saved.

        An adapter is merged into the matrices beside which it was trained, and before that saved, by the one
        process that has a folder for it.
        """
        self._master.release(model)
        if self._choice.adapter:
            if adapter_folder is not None:
                self._choice.adapter.save(adapter_folder, self._ranks)
            self._choice.adapter.merge()

    @property
    def alone(self) -> int:
        """Steps, from the first, in which only the rows of new tokens move."""
        return self._choice.alone

    @property
    def settling(self) -> int:
        """Steps after which every weight that may move must have moved."""
        return self._choice.settling

    def moving(self) -> Mapping[str, nn.Parameter]:
        """What may move in this step, by name."""
        return self._rows.weights if self._step < self.alone else self.weights

    def must_move(self) -> Mapping[str, nn.Parameter]:
        """What moves in this step, or within `settling` of them, whatever the batch holds."""
        return {name: p for name, p in self.moving().items() if name not in self._choice.occasional}

    def still(self, model: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """What must not move in this step: tensors by name, each with the ids [N] of rows that yet may."""
        moving = self.moving()
        masters = self._master.weights
        found: dict[str, torch.Tensor] = {
            **{name: p for name, p in self._master.parameters.items() if name not in masters},
            **dict(model.named_buffers()),
            **{name: p for name, p in masters.items() if name not in moving},
        }
        none = self._rows.tokens[:0]
        return {
            name: (tensor, self._rows.tokens if name + NEW_ROWS in self.weights else none)
            for name, tensor in found.items()
        }

    def size(self, name: str) -> int:
        """Numbers that move as this weight; rows that are weights of their own do not count twice."""
        rows = self._rows.weights.get(name + NEW_ROWS)
        return self.weights[name].numel() - (0 if rows is None else rows.numel())
