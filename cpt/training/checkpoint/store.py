"""The checkpoints of one run: the newest readable one is found, old ones go."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from cpt.errors import StageFailed
from cpt.training.checkpoint.folder import Unreadable, read, write
from cpt.training.checkpoint.parts import Weights
from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.optimizers.groups import NEW_ROWS

_NAME = re.compile(r"step-(\d{9})")


class Store:
    """The folder of a run's checkpoints, each named by its step."""

    def __init__(self, folder: Path, keep: int, stays: Callable[[int], object] = lambda _: None) -> None:
        """Open the folder.

        Args:
            keep: how many of the newest are kept.
            stays: why the checkpoint of a step stays, however old; None where it does not.
        """
        self.folder, self._keep, self._stays = folder, keep, stays
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, newest first."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def path(self, step: int) -> Path:
        """Folder of the checkpoint of a step."""
        return self.folder / f"step-{step:09d}"

    def save(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Write a checkpoint, then remove those that it makes old.

        Args:
            snapshots: see `folder.write`.
        """
        folder = self.path(snapshots[""].step)
        if not folder.exists():  # what is there was read, or written, by this very run
            write(folder, snapshots)
        for old in self.steps()[self._keep :]:
            if self._stays(old) is None:
                shutil.rmtree(self.path(old))

    def newest(self, writes: bool = True) -> tuple[dict[str, Snapshot] | None, list[str]]:
        """The newest readable checkpoint, or None; and what is wrong with newer ones, which are removed.

        Were they left, they would count as the newest, and the readable one would go. Writes that were cut
        off are removed, too.

        Args:
            writes: whether this process, of several, is the one to remove anything.
        """
        for aside in self.folder.glob(".step-*") if writes else ():
            shutil.rmtree(aside)
        wrong: list[str] = []
        for step in self.steps():
            try:
                return read(self.path(step)), wrong
            except Unreadable as error:
                wrong.append(f"the checkpoint of step {step} is unreadable and is removed: {error}")
                if writes:
                    shutil.rmtree(self.path(step))
        return None, wrong


@torch.no_grad()
def load_weights(folder: Path, step: int, model: nn.Module, new_tokens: Sequence[int] = ()) -> None:
    """Give a model the trained weights that a step's checkpoint holds.

    Args:
        folder: of the checkpoints.
        model: float32.
        new_tokens: ids of the tokens whose rows may be weights of their own.

    Raises:
        StageFailed: the checkpoint is unreadable, or another model's.
    """
    try:
        saved = read(Store(folder, keep=1).path(step))[""].tensors["weights"]
    except Unreadable as error:
        raise StageFailed(f"the checkpoint of step {step} is unreadable: {error}") from error
    parameters = dict(model.named_parameters())
    matrices = {name: saved[name] for name in saved if not name.endswith(NEW_ROWS)}
    Weights({name: parameters[name] for name in matrices if name in parameters}, lambda: None).restore(
        matrices
    )
    for name in saved.keys() - matrices.keys():
        matrix = parameters[name.removesuffix(NEW_ROWS)]
        matrix[list(new_tokens)] = saved[name].to(matrix.device)
