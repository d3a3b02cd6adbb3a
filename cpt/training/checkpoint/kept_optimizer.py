"""Keep the optimizer's state of a checkpoint beside its model, and begin another run with it."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from cpt.errors import DamagedFile, StageFailed
from cpt.training.checkpoint.store import read_step
from cpt.training.checkpoint.stored import file_opener, whole_tensors

_NAME, _DATA = "optimizer", "data"


def keep_optimizer(work: Path, step: int, file: Path) -> None:
    """Write the optimizer's state of a checkpoint to a file.

    Args:
        work: Folder of the checkpoints.

    Raises:
        StageFailed: The checkpoint is unreadable.
    """
    snapshot = read_step(work, step)
    tensors = {key: value.clone().contiguous() for key, value in snapshot.tensors[_NAME].items()}
    save_file(tensors, file, metadata={_DATA: json.dumps(snapshot.data[_NAME])})


def read_kept_optimizer(file: Path, weights: Collection[str]) -> dict[str, Any]:
    """Return the state that `OptimizerState.load_state_dict` restores; its tensors are on the disk.

    Args:
        weights: Names of the weights that the optimizer moves.

    Raises:
        DamagedFile: The file is missing or damaged.
        StageFailed: The state is of other weights.
    """
    try:
        opened = file_opener()
        tensors = whole_tensors(file, opened)
        data: dict[str, Any] = json.loads(opened(file).metadata()[_DATA])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(file, f"no optimizer state: {error}") from error
    named = {key.rpartition("/")[0] for key in tensors}
    if other := sorted(named ^ set(weights)):
        raise StageFailed(
            f"the kept optimizer state is not of the weights that train here: {', '.join(other[:3])}",
            hint="Give both stages the same `trainable`, or leave start.optimizer out.",
        )
    return tensors | data
