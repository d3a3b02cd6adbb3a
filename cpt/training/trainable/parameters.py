"""The weights that the optimizer moves, step by step: which of them move now, and what follows a step."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpt.training.distributed.tensors import put_rows, take_rows
from cpt.training.master_weights import MasterWeights, Weights
from cpt.training.optimizers.groups import NEW_ROWS, NEW_TOKENS, Group, group_weights
from cpt.training.trainable.spec import TrainableSpec

if TYPE_CHECKING:
    from cpt.training.distributed.collectives import ProcessGroup


ADAPTER = "adapter"
"""Name of the trained adapter's folder in a run's work folder."""


class NewTokenRows:
    """The rows of new tokens as weights of their own, copied from float32 matrices [V, H].

    An optimizer then treats them as a group: with a rate of their own, or alone, without state and weight
    decay for the other rows. Before each step they take their gradients from the matrices; after it they are
    written back into the matrices.

    Attributes:
        weights: Rows [N, H] by the matrix's name and `NEW_ROWS`.
        tokens: Ids [N] of the new tokens.
    """

    def __init__(self, matrices: Mapping[str, nn.Parameter], tokens: torch.Tensor) -> None:
        """Copy rows `tokens` [N] of every matrix."""
        self._matrices = matrices
        device = next((matrix.device for matrix in matrices.values()), tokens.device)
        self.tokens = tokens.to(device)
        self.weights = {
            name + NEW_ROWS: nn.Parameter(take_rows(matrix.detach(), self.tokens))
            for name, matrix in matrices.items()
        }

    def take_grads(self) -> None:
        """Move the gradients of the rows from the matrices to the rows."""
        for name, matrix in self._matrices.items():
            if matrix.grad is not None:
                self.weights[name + NEW_ROWS].grad = take_rows(matrix.grad, self.tokens)
                put_rows(matrix.grad, self.tokens, 0)

    @torch.no_grad()
    def write(self) -> None:
        """Write the rows into the matrices."""
        for name, matrix in self._matrices.items():
            put_rows(matrix, self.tokens, self.weights[name + NEW_ROWS])


class TrainableParameters:
    """The float32 weights that the optimizer moves, behind a model in its working precision.

    A step is `begin_step`, the backward passes with `accumulate_grads` after each, `mask_grads`, the
    optimizer's step and `after_step`, all before the gradients are cleared. What happens in a step follows
    from its number alone.

    Attributes:
        weights: Weights that the optimizer moves, by name.
        checkpoint_tensors: Tensors that a checkpoint holds besides the optimizer's state, by name; call
            `sync_to_model` after restoring them.
    """

    def __init__(self, spec: TrainableSpec, master_weights: Weights) -> None:
        """Take over the master weights of a model that `spec` describes."""
        self._spec, self._master, self._step = spec, master_weights, 0
        self._rows = NewTokenRows(
            {name: master_weights.weights[name] for name in spec.new_rows},
            torch.tensor(spec.new_tokens, dtype=torch.long),
        )
        whole = {name: p for name, p in master_weights.weights.items() if spec.new_rows.get(name, True)}
        self.weights: Mapping[str, nn.Parameter] = {**whole, **self._rows.weights}
        self._ranks = spec.adapter.allocation(self.weights) if spec.adapter else None
        self.checkpoint_tensors: Mapping[str, torch.Tensor] = {
            **self.weights,
            **(self._ranks.state if self._ranks else {}),
        }

    @property
    def master_weights(self) -> Mapping[str, nn.Parameter]:
        """Return the weights that accumulate gradients: whole matrices, also if only rows of them train."""
        return self._master.weights

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the model's parameters, which backward passes give their gradients."""
        return self._master.parameters

    def groups(self, model: Any) -> list[Group]:
        """Return the weights in groups, each with its multiple of the rate."""
        return group_weights(model, self.weights, self._spec.rates)

    def register_hooks(self, optimizer: torch.optim.Optimizer) -> None:
        """Register the hooks that must run around the optimizer's steps."""
        self._master.register_hooks(optimizer)

    def begin_step(self, step: int) -> None:
        """Set the number of the step, from 0. Weights that do not move in it get no gradient."""
        self._step = step
        if not self.first_steps:
            return
        changes = False
        for name in self._master.weights:
            moves = step >= self.first_steps or name in self._spec.new_rows
            changes |= self._master.parameters[name].requires_grad != moves
            self._master.parameters[name].requires_grad_(moves)
        if changes:  # a probe may have left sharded weights gathered, with the flag of the steps before
            self._master.sync_to_model()

    def rate(self, group: Mapping[str, Any]) -> float:
        """Return the multiple of the schedule's rate at which a group of the optimizer moves in this step."""
        if not self.first_steps or group["name"] == NEW_TOKENS:
            return float(group["multiple"])
        warm = (self._step - self.first_steps + 1) / self._spec.late_warmup
        return float(group["multiple"]) * min(max(warm, 0.0), 1.0)

    def accumulate_grads(self) -> None:
        """Add the model's gradients to those of the master weights, after each backward pass."""
        self._master.accumulate_grads()

    def accumulate_grad(self, name: str) -> None:
        """Add the gradient of one parameter to that of its master weight, if they are two tensors."""
        if isinstance(self._master, MasterWeights):
            self._master.accumulate_grad(name)

    def mask_grads(self) -> None:
        """Drop the gradients of weights that do not move in this step, after its last backward pass."""
        self._rows.take_grads()
        moving = self.moving_weights()
        for name, weight in self._master.weights.items():
            if name not in moving:
                weight.grad = None
        if self._ranks:
            self._ranks.regularise()

    def after_step(self) -> None:
        """Reallocate ranks and update the model, after the optimizer's step while the gradients are there."""
        if self._ranks:
            self._ranks.allocate(self._step + 1)
        self.sync_to_model()

    def sync_to_model(self) -> None:
        """Copy the weights into the model, after every change of them."""
        self._rows.write()
        self._master.sync_to_model()

    def restore_model(self, model: Any, adapter_folder: Path | None) -> None:
        """Make the model a plain float32 one with the trained weights, to be saved.

        An adapter is saved and then merged into the matrices around which it was trained.

        Args:
            model: Model that trained.
            adapter_folder: Folder for the adapter; None in all processes but one.
        """
        if self._master.restore_model(model) and self._spec.adapter:
            if adapter_folder is not None:
                self._spec.adapter.save(adapter_folder, self._ranks)
            self._spec.adapter.merge()

    def write_shards(self, model: Any, work: Path, processes: ProcessGroup) -> None:
        """Write the sharded model that trained as a plain float32 one; all processes must call this together.

        transformers composes some parameters of several stored tensors. Such a model is gathered whole in the
        main process.

        Args:
            model: Model that trained; it is of no use any more afterwards.
            work: Folder that gets `model`, and `adapter` if an adapter trained.
            processes: Process group of the run.
        """
        from cpt.training.distributed.writing import MODEL, write_adapter, write_model

        self.sync_to_model()
        if getattr(model, "_weight_conversions", None):
            self.restore_model(model, work / ADAPTER if processes.is_main else None)
            if processes.is_main:
                shutil.rmtree(work / MODEL, ignore_errors=True)
                model.save_pretrained(work / MODEL)
            return
        if self._spec.adapter:
            write_adapter(model, self._spec.adapter, self._ranks, work / ADAPTER, processes)
        write_model(model, self._spec.adapter, work / MODEL, processes)

    @property
    def first_steps(self) -> int:
        """Return the number of steps, from the first, in which only the rows of new tokens move."""
        return self._spec.first_steps

    @property
    def settling_steps(self) -> int:
        """Return the number of steps after which every weight that may move must have moved."""
        return self._spec.settling_steps

    def moving_weights(self) -> Mapping[str, nn.Parameter]:
        """Return the weights that may move in this step, by name."""
        return self._rows.weights if self._step < self.first_steps else self.weights

    def must_move(self) -> Mapping[str, nn.Parameter]:
        """Return the weights that move within `settling_steps` of this step with any batch, by name."""
        return {name: p for name, p in self.moving_weights().items() if name not in self._spec.occasional}

    def frozen_tensors(self, model: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return the tensors that must not move in this step, by name, with the ids [N] of rows that may."""
        moving = self.moving_weights()
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
        """Return the number of elements of a weight, without rows that are weights of their own."""
        rows = self._rows.weights.get(name + NEW_ROWS)
        return self.weights[name].numel() - (0 if rows is None else rows.numel())
