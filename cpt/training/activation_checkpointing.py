"""Activation checkpointing: a layer's activations are not stored but recomputed in the backward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from cpt.errors import StageFailed


def checkpoint_layers(model: Any) -> None:
    """Store only the input of each layer (Chen et al. 2016, arXiv 1604.06174).

    Gradients are the same to the bit. transformers' own switch acts only on a model in training mode, with
    dropout. Here nothing is random, so no state of a random number generator is stored.

    Raises:
        StageFailed: The model has no layers that support checkpointing.
    """
    layers = decoder_layers(model)
    if not layers:
        raise StageFailed(
            f"{type(model).__name__} does not support gradient checkpointing",
            hint="Set gradient_checkpointing: false.",
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def decoder_layers(model: Any) -> list[Any]:
    """Return the layers of a model, as transformers marks them."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
