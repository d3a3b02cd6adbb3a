"""Checkpoints that a kill cannot spoil: written aside, checksummed, renamed; the newest readable one wins."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cpt.training.sharding import gather, place

Weights = Mapping[str, nn.Parameter]
_NAME = re.compile(r"step-(\d{9})")
_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


def save_checkpoint(
    folder: Path,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
    writes: bool = True,
) -> None:
    """Write `folder/step-…`, then remove all but the newest `keep`.

    The files hold whole tensors, whatever the processes that trained them: any number can go on from them.

    Args:
        weights: trained weights by name.
        state: plain JSON data; `state["step"]` names the checkpoint.
        writes: whether this process writes; of several, the others only hand over what is divided.
    """
    whole_weights = gather(weights, writes)
    whole_optimizer = gather(_optimizer_tensors(weights, optimizer), writes)
    if not writes:
        return
    name = f"step-{state['step']:09d}"
    aside = folder / f".{name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(whole_weights, aside / _WEIGHTS)
    save_file(whole_optimizer, aside / _OPTIMIZER)
    checksums = {name: _checksum(aside / name) for name in (_WEIGHTS, _OPTIMIZER)}
    (aside / _STATE).write_text(json.dumps({"state": state, "checksums": checksums}))
    _sync(aside)
    shutil.rmtree(folder / name, ignore_errors=True)
    aside.rename(folder / name)
    _sync(folder)
    for old in _checkpoints(folder)[keep:]:
        shutil.rmtree(old)


def load_newest(
    folder: Path, weights: Weights, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any] | None, list[str]]:
    """Restore the newest readable checkpoint into weights and optimizer.

    Returns:
        Its state, or None when there is none; and the names of newer ones that were damaged: removed.
    """
    damaged = []
    for checkpoint in _checkpoints(folder):
        try:
            content = json.loads((checkpoint / _STATE).read_text())
            for name, checksum in content["checksums"].items():
                if _checksum(checkpoint / name) != checksum:
                    raise ValueError(f"{name} does not match its checksum")
            saved = load_file(checkpoint / _WEIGHTS)
            moments = load_file(checkpoint / _OPTIMIZER)
        except (OSError, ValueError, KeyError, SafetensorError):
            damaged.append(checkpoint.name)
            shutil.rmtree(checkpoint)  # else it would count as the newest, and the next one would go
            continue
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(place(saved[name], weight))
        _restore_optimizer(weights, optimizer, moments)
        state: dict[str, Any] = content["state"]
        return state, damaged
    return None, damaged


def _checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, newest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _optimizer_tensors(weights: Weights, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def _restore_optimizer(
    weights: Weights, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    optimizer.state.clear()
    for key, value in tensors.items():
        name, field = key.rsplit("/", 1)
        optimizer.state[weights[name]][field] = place(value, weights[name])


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a folder and its files to the disk, so that the rename cannot outrun them."""
    for target in [*(path.iterdir() if path.is_dir() else []), path]:
        if target.is_dir() and target != path:
            continue
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
