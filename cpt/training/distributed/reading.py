"""Read a sharded model as if it were whole, outside of training: to sample from it, or to generate.

The main process alone decides what is computed. A forward pass gathers each layer from all processes, so the
others run one whenever the main process does, on a token of their own: they need none of its inputs, and
nothing that is computed has to be equal in two processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from cpt.models.unloaded_model import unloaded_model
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.sharding import shard_for_reading

T = TypeVar("T")


@torch.no_grad()
def read_sharded(folder: Path, needed: bool, use: Callable[[Any], T]) -> T | None:
    """Return what a function makes of a model, in the main process; all processes must call this together.

    Args:
        folder: Folder of the model, which `unloaded_model` can read.
        needed: True, in the main process, if the function is to be called at all.
        use: Function of the float32 causal language model; it may call it any number of times.

    Returns:
        None in the other processes, and if it is not needed.
    """
    processes = ProcessGroup(distributed_context())
    made = None
    if processes.any(needed and processes.is_main):
        model = unloaded_model(folder, "sdpa")
        shard_for_reading(model, processes)
        if processes.is_main:
            model.register_forward_pre_hook(lambda *_: processes.any(True) and None, prepend=True)
            made = use(model)
            processes.any(False)
        else:
            token = torch.zeros(1, 1, dtype=torch.long, device=processes.device)
            while processes.any(False):
                model(input_ids=token, use_cache=False)
    processes.close()
    return made
