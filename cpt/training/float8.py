"""Matrix products in 8-bit floating point, by torchao, on a GPU that supports them."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from cpt.errors import StageFailed
from cpt.training.distributed.environment import Hardware, this_hardware

_CAPABILITY = (8, 9)
_MULTIPLE = 16
"""Divisor that both sides of a weight must have."""


def float8_obstacle(hardware: Hardware | None = None) -> str | None:
    """Return why float8 cannot be used, or None if it can.

    Args:
        hardware: Hardware to train on; by default this machine's.
    """
    hardware = hardware or this_hardware()
    if not hardware.is_gpu:
        return "precision fp8 needs an NVIDIA GPU, and there is none"
    if hardware.capability < _CAPABILITY:
        major, minor = hardware.capability
        return (
            f"precision fp8 needs a GPU of compute capability 8.9 or more (Ada, Hopper), and "
            f"{hardware.name} has {major}.{minor}"
        )
    if hardware.is_here and importlib.util.find_spec("torchao") is None:
        return "precision fp8 needs torchao: pip install 'cpt-workbench[float8]'"
    return None


def to_float8(model: Any) -> None:
    """Make linear layers scale inputs, weights and gradients to 8 bits, by a factor per tensor, and multiply.

    Weights keep their values and their data type. The head is left out: the loss computes its products. The
    factor of an input is that of the whole packed row, so the documents of a row share a rounding, and
    nothing else.

    Call it before the weights are sharded: FSDP2 gives a gathered weight to the layer that it found, and the
    layers made here have the weights of the former ones.

    Raises:
        StageFailed: Float8 cannot be used on this machine.
    """
    if reason := float8_obstacle():
        raise StageFailed(reason, hint="Set precision: bf16.")
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    head = model.get_output_embeddings()

    def is_converted(part: Any, name: str) -> bool:  # noqa: ARG001
        sides = (part.in_features, part.out_features)
        plain = type(part).forward is nn.Linear.forward  # a router of experts returns more than a product
        return plain and part is not head and all(side % _MULTIPLE == 0 for side in sides)

    # packed rows have any number of tokens, which is an inner dimension of the weights' gradients
    config = Float8LinearConfig(pad_inner_dim=True)
    before = set(model.modules())
    convert_to_float8_training(model, config=config, module_filter_fn=is_converted)
    for part in set(model.modules()) - before:
        part.is_float8 = True


@contextmanager
def plain_products(model: nn.Module) -> Iterator[None]:
    """Let converted layers of a model multiply in the data type of their weights."""
    converted: list[Any] = [part for part in model.modules() if getattr(part, "is_float8", False)]
    for part in converted:
        part.forward = types.MethodType(nn.Linear.forward, part)
    try:
        yield
    finally:
        for part in converted:
            del part.forward
