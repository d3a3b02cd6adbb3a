"""A torch optimizer for a whole model: an update rule for matrices, AdamW for the rest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from cpt.training.distributed.tensors import scatter, shard_like, shard_mesh, whole
from cpt.training.optimizers.groups import Group, is_matrix, param_group

if TYPE_CHECKING:
    from cpt.training.distributed.collectives import ProcessGroup


@dataclass(frozen=True)
class Matrix:
    """A weight that has a gradient, with its optimizer state.

    Attributes:
        name: Name of the weight in the model.
        weight, gradient: Tensors [..., M, N].
        state: Tensors by name; empty before the first step.
    """

    name: str
    weight: Tensor
    gradient: Tensor
    state: dict[str, Tensor]

    @property
    def steps(self) -> int:
        """Return the number of steps taken."""
        return int(self.state["step"])

    def count_step(self) -> int:
        """Add one step to the count and return the new count.

        The count stays on the CPU: there, reading it does not wait for the GPU.
        """
        self.state["step"] = self.state["step"].cpu() + 1
        return self.steps


class UpdateRule(Protocol):
    """An update rule for matrices, with the settings of AdamW for the rest; see `MatrixConfig`."""

    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def eps(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...

    def initial_state(self, matrix: Matrix) -> dict[str, Tensor]: ...

    def update_together(
        self, matrices: Sequence[Matrix], rate: float, replicas: ProcessGroup | None
    ) -> None: ...


class MatrixOptimizer(torch.optim.Optimizer):
    """An optimizer that moves matrices by a rule, and everything else by AdamW.

    Attributes:
        replicas: Processes that hold the same weights and gradients and step together; None if this process
            does all work alone.
    """

    replicas: ProcessGroup | None = None

    def __init__(self, groups: Sequence[Group], rule: UpdateRule) -> None:
        self._rule = rule
        super().__init__(list(_param_groups(groups, rule.weight_decay)), {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            if group["matrices"]:
                self._move_matrices(group)
            else:
                self._move_by_adamw(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; unlike torch's method, keep the data type in which it was saved."""
        super().load_state_dict(state_dict)
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for index, weight in enumerate(weights):
            for key, value in state_dict["state"].get(index, {}).items():
                self.state[weight][key] = value.to(weight.device)

    def _move_matrices(self, group: dict[str, Any]) -> None:
        matrices = [
            Matrix(name, weight, weight.grad, self.state[weight])
            for name, weight in zip(group["weight_names"], group["params"], strict=True)
            if weight.grad is not None
        ]
        if matrices and isinstance(matrices[0].weight, DTensor):
            move_sharded(matrices, self._rule, lambda some: self._move_whole(some, group))
        elif matrices:
            self._move_whole(matrices, group)

    def _move_whole(self, matrices: Sequence[Matrix], group: dict[str, Any]) -> None:
        for matrix in matrices:
            if not matrix.state:
                matrix.state.update(self._rule.initial_state(matrix))
        torch._foreach_mul_([m.weight for m in matrices], 1 - group["lr"] * group["weight_decay"])
        self._rule.update_together(matrices, group["lr"], self.replicas)

    def _move_by_adamw(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        if weights:
            adamw(
                weights,
                [weight.grad for weight in weights],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=self._rule.beta1,
                beta2=self._rule.beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=self._rule.eps,
                maximize=False,
            )


def move_sharded(
    matrices: Sequence[Matrix], rule: UpdateRule, move: Callable[[Sequence[Matrix]], None]
) -> None:
    """Move matrices that are sharded over processes exactly as whole ones.

    Each matrix is gathered, with its gradient and state, by all processes; one of them moves it and hands out
    the shards. As many matrices as there are processes move at the same time: a process holds one of them,
    and the one that is being gathered. Between steps the state is sharded by its rows. Replicas of the shards
    (HSDP) each do the same.

    Args:
        matrices: Sharded matrices, in the same order in every process.
        rule: Rule that makes their state.
        move: Function that moves whole matrices.
    """
    mesh = shard_mesh(matrices[0].weight)
    rank, count = mesh.get_local_rank(), mesh.size()
    for first in range(0, len(matrices), count):
        some = matrices[first : first + count]
        mine: Matrix | None = None
        for owner, matrix in enumerate(some):
            state = {key: whole(value) for key, value in matrix.state.items()}
            gathered = Matrix(matrix.name, whole(matrix.weight).detach(), whole(matrix.gradient), state)
            if not state:
                gathered.state.update(rule.initial_state(gathered))
                matrix.state.update({k: shard_like(v, matrix.weight) for k, v in gathered.state.items()})
            if owner == rank:
                mine = gathered
            del gathered, state
        if mine is not None:
            move([mine])
        for owner, matrix in enumerate(some):
            moved = mine if owner == rank else None
            scatter(matrix.weight, None if moved is None else moved.weight, owner)
            for key, value in matrix.state.items():
                if isinstance(value, DTensor):
                    scatter(value, None if moved is None else moved.state[key], owner)
            if "step" in matrix.state:
                matrix.count_step()


def moments(shape: Sequence[int], like: Tensor) -> dict[str, Tensor]:
    """Return the state of Adam before its first step, for gradients of this shape."""
    return {
        "step": torch.zeros((), dtype=torch.float32),
        "exp_avg": torch.zeros(shape, dtype=like.dtype, device=like.device),
        "exp_avg_sq": torch.zeros(shape, dtype=like.dtype, device=like.device),
    }


def adam_directions(
    matrices: Sequence[Matrix], gradients: list[Tensor], steps: Sequence[int], rule: UpdateRule
) -> Sequence[Tensor]:
    """Add gradients to the moments and return Adam's directions m̂ / (√v̂ + ε), in the gradients' shapes.

    Args:
        matrices: Matrices whose state holds the moments.
        gradients: One gradient per matrix, in the shape of its moments.
        steps: Number of gradients in the moments of each matrix, for the bias correction.
        rule: Settings of Adam.
    """
    first = [matrix.state["exp_avg"] for matrix in matrices]
    second = [matrix.state["exp_avg_sq"] for matrix in matrices]
    torch._foreach_lerp_(first, gradients, 1 - rule.beta1)
    torch._foreach_mul_(second, rule.beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - rule.beta2)
    roots = torch._foreach_sqrt(second)
    torch._foreach_div_(roots, [math.sqrt(1 - rule.beta2**step) for step in steps])
    torch._foreach_add_(roots, rule.eps)
    torch._foreach_mul_(roots, [1 - rule.beta1**step for step in steps])
    return torch._foreach_div(first, roots)


def tall_view(x: Tensor) -> Tensor:
    """Return a view of [..., M, N] as [..., L, S], with the longer side first."""
    return x if x.shape[-2] >= x.shape[-1] else x.mT


def random_stream(device: torch.device, *key: object) -> torch.Generator:
    """Return a random number generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def _param_groups(groups: Sequence[Group], weight_decay: float) -> Iterator[dict[str, Any]]:
    for group in groups:
        for matrices in (True, False):
            weights = {n: w for n, w in group.weights.items() if is_matrix(group.kind, w.shape) == matrices}
            if weights:
                names = {"matrices": matrices, "weight_names": list(weights)}
                yield param_group(group, weights, weight_decay) | names
