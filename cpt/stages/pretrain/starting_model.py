"""The models that a pretrain stage hands to the training, as far as this process needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_to_train(folder: Path) -> Any:
    """Return a model as `cpt.training.loop.train` takes it, in float32.

    If weights are sharded over processes, it has no values yet: each process reads its own shards in `train`.
    A model whose parameters are not its stored tensors is loaded whole all the same.

    Raises:
        ModelError: the folder is damaged, or its weights are not all of this model's.
        StageFailed: the model is of a kind that cannot be used here.
    """
    from cpt.models.packed_model import load_model
    from cpt.models.unloaded_model import unloaded_model

    model = unloaded_model(folder) if weights_are_sharded() else None
    return load_model(folder) if model is None else model


def weights_are_sharded() -> bool:
    """Return True if the processes of this run shard the weights of a model that they train."""
    from cpt.training.distributed.context import distributed_context
    from cpt.training.distributed.launch import launched_environment

    return launched_environment(distributed_context().count).sharded
