"""One optimizer for a whole model: a way of its own with matrices, AdamW for the rest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from cpt.errors import StageFailed
from cpt.training.groups import Group
from cpt.training.optimizers.base import MatrixConfig, is_matrix, param_group

C = TypeVar("C", bound=MatrixConfig)


@dataclass(frozen=True)
class Matrix:
    """A weight that has a gradient, with its state.

    Attributes:
        name: of the weight in the model.
        weight, gradient: [..., M, N].
        state: tensors by name; empty before the first step.
    """

    name: str
    weight: Tensor
    gradient: Tensor
    state: dict[str, Tensor]

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self.state["step"])

    def count_step(self) -> int:
        """Enter one more step; returns how many it makes.

        The count stays on the CPU, where reading it waits for nothing.
        """
        self.state["step"] = self.state["step"].cpu() + 1
        return self.steps


class MatrixOptimizer(torch.optim.Optimizer, Generic[C]):
    """Moves matrices as `_move` says, and everything else by AdamW. State is tensors in `state[weight]`."""

    def __init__(self, groups: Sequence[Group], config: C) -> None:
        self._config = config
        super().__init__(list(_param_groups(groups, config.weight_decay)), {"lr": 0.0})

    def _start(self, matrix: Matrix) -> dict[str, Tensor]:
        """State of a matrix before its first step."""
        raise NotImplementedError

    def _move(self, matrices: Sequence[Matrix], rate: float) -> None:
        """Take a step with matrices of which the decay is already taken off."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            if group["matrices"]:
                self._move_matrices(group)
            else:
                self._move_by_adamw(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but state keeps the data type in which it was saved, not that of the weights."""
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
        for matrix in matrices:
            if not matrix.state:
                _refuse_parts(matrix)
                matrix.state.update(self._start(matrix))
        if matrices:
            torch._foreach_mul_([m.weight for m in matrices], 1 - group["lr"] * group["weight_decay"])
            self._move(matrices, group["lr"])

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
                beta1=self._config.beta1,
                beta2=self._config.beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=self._config.eps,
                maximize=False,
            )


def moments(shape: Sequence[int], like: Tensor) -> dict[str, Tensor]:
    """State of Adam before its first step, for gradients of a shape."""
    return {
        "step": torch.zeros((), dtype=torch.float32),
        "exp_avg": torch.zeros(shape, dtype=like.dtype, device=like.device),
        "exp_avg_sq": torch.zeros(shape, dtype=like.dtype, device=like.device),
    }


def adam_directions(
    matrices: Sequence[Matrix], gradients: list[Tensor], steps: Sequence[int], config: MatrixConfig
) -> Sequence[Tensor]:
    """Enter gradients into the moments; Adam's directions m̂ / (√v̂ + ε), of the gradients' shapes.

    Args:
        steps: how many gradients each one's moments then hold, for the bias correction.
    """
    first = [matrix.state["exp_avg"] for matrix in matrices]
    second = [matrix.state["exp_avg_sq"] for matrix in matrices]
    torch._foreach_lerp_(first, gradients, 1 - config.beta1)
    torch._foreach_mul_(second, config.beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - config.beta2)
    roots = torch._foreach_sqrt(second)
    torch._foreach_div_(roots, [math.sqrt(1 - config.beta2**step) for step in steps])
    torch._foreach_add_(roots, config.eps)
    torch._foreach_mul_(roots, [1 - config.beta1**step for step in steps])
    return torch._foreach_div(first, roots)


def upright(x: Tensor) -> Tensor:
    """A view with at least as many rows as columns: [..., M, N] as [..., L, S], the longer side first."""
    return x if x.shape[-2] >= x.shape[-1] else x.mT


def random_stream(device: torch.device, *key: object) -> torch.Generator:
    """Random numbers that are a function of a key and nothing else."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def _param_groups(groups: Sequence[Group], weight_decay: float) -> Iterator[dict[str, Any]]:
    for group in groups:
        for matrices in (True, False):
            weights = {n: w for n, w in group.weights.items() if is_matrix(group.kind, w.shape) == matrices}
            if weights:
                names = {"matrices": matrices, "weight_names": list(weights)}
                yield param_group(group, weights, weight_decay) | names


def _refuse_parts(matrix: Matrix) -> None:
    from torch.distributed.tensor import DTensor

    if matrix.weight.ndim < 2 or isinstance(matrix.weight, DTensor):
        raise StageFailed(
            f"the optimizer needs {matrix.name} whole, but it is spread over processes",
            hint="Use kind: adamw when weights are sharded (FSDP, DeepSpeed), or train on replicas (DDP).",
        )
