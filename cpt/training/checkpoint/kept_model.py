"""Write the model of a checkpoint tensor by tensor, so that no process ever has the whole model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from cpt.errors import StageFailed
from cpt.models.folder_files import INDEX
from cpt.models.streamed_weights import write_weights
from cpt.training.checkpoint.store import read_step
from cpt.training.checkpoint.stored import TENSORS, StoredTensor, file_opener, whole_tensors
from cpt.training.optimizers.groups import NEW_ROWS


def keep_model(work: Path, step: int, finished: Path, folder: Path, new_tokens: Sequence[int]) -> None:
    """Write the model of a step: trained weights from its checkpoint, all else from the finished model.

    Args:
        work: Folder of the checkpoints.
        step: Step of the checkpoint.
        finished: Folder of the model at the end of the training, in float32, whose stored tensors have the
            names of its parameters.
        folder: Folder to write.
        new_tokens: Ids of the tokens whose rows may be weights of their own.

    Raises:
        StageFailed: The checkpoint is unreadable, or another model's.
    """
    trained = read_step(work, step).tensors["weights"]
    opened, rows = file_opener(), list(new_tokens)
    stored = {
        name: tensor
        for file in sorted(finished.glob(f"*{TENSORS}"))
        for name, tensor in whole_tensors(file, opened).items()
    }
    shapes = {name: _without_memory(each) for name, each in stored.items()}
    foreign = [
        name
        for name, each in trained.items()
        if name.removesuffix(NEW_ROWS) not in stored
        or (not name.endswith(NEW_ROWS) and each.shape != stored[name].shape)
    ]
    if foreign:
        raise StageFailed(f"the checkpoint of step {step} is another model's: {', '.join(foreign[:3])}")

    def tensor(name: str) -> torch.Tensor:
        if name in trained:
            return trained[name].clone()
        found = stored[name].clone()
        if f"{name}{NEW_ROWS}" in trained:
            found[rows] = trained[f"{name}{NEW_ROWS}"].clone().to(found.dtype)
        return found

    folder.mkdir(parents=True)
    for file in finished.iterdir():
        if file.is_file() and file.suffix != TENSORS and file.name != INDEX:
            shutil.copyfile(file, folder / file.name)
    write_weights(folder, shapes, tensor)


def _without_memory(stored: StoredTensor) -> torch.Tensor:
    """Return a tensor of the shape and data type of a stored one, on the meta device."""
    part = stored.rows(0, 0) if stored.ndim else stored.clone()
    return torch.empty(stored.shape, dtype=part.dtype, device="meta")
