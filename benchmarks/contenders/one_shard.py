"""cpt's training loop with FSDP2 over one process: its hooks, casts and copies, without communication."""

from __future__ import annotations

import os
from typing import Any

import cpt_loop
import torch
from accelerate import FullyShardedDataParallelPlugin
from torch import distributed

from cpt.training import loop
from cpt.training.distributed.collectives import ProcessGroup


class OneShard(ProcessGroup):
    """One process that has all shards."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        if not distributed.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
        self.sharding = FullyShardedDataParallelPlugin()


def main() -> None:
    os.environ["FSDP_VERSION"] = "2"
    loop.ProcessGroup = OneShard  # type: ignore[misc]
    if torch.cuda.is_available():
        torch.cuda.set_device(0)
    cpt_loop.main()


if __name__ == "__main__":
    main()
