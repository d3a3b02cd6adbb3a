"""Optimizers: one module each, with its settings and its `build`."""

from cpt.training.optimizers.adamw import AdamW

__all__ = ["AdamW"]
