"""Gradient checkpointing: a layer's inner values are not kept but computed again in the backward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from cpt.errors import StageFailed


def recompute_layers(model: Any) -> None:
    """Keep nothing of a layer but its input (Chen et al. 2016, arXiv 1604.06174).

    Gradients are the same to the bit. The library's own switch acts only on a model in training mode, with
    dropout; here nothing is random, so no state of a random number generator is kept.

    Raises:
        StageFailed: the model has no layers that say of themselves that they can be computed twice.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise StageFailed(
            f"{type(model).__name__} does not support gradient checkpointing",
            hint="Set gradient_checkpointing: false.",
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
