"""Write a checkpoint of sharded weights: every process writes its own shards, the main one the rest.

No process has a whole tensor. Files of a snapshot:

shard-00000.safetensors …  rows of sharded tensors by process; in the first file also all other tensors
tensors.json               shape and type of every whole tensor, and the number of its rows in each file

Why not `torch.distributed.checkpoint`: see `writer.py`. Its resharding is for any layout; rows in equal parts
need a division.
"""

from __future__ import annotations

import json
import shutil
from collections import ChainMap
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from cpt.atomic import atomic_folder, flush_one
from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint.manifest import Facts, facts_of, is_full, write_manifest
from cpt.training.checkpoint.snapshot import Snapshot, require_space
from cpt.training.checkpoint.stored import TENSORS, StoredTensor, file_opener
from cpt.training.distributed.tensors import rows_per_shard

INDEX = "tensors.json"
_SHARD = "shard-{:05d}" + TENSORS

T = TypeVar("T")


class Processes(Protocol):
    """The processes that have shards of one checkpoint, seen from one of them; rank 0 is the main process."""

    rank: int
    count: int

    def gather(self, data: T) -> list[T]:
        """Return the JSON data of every process, in the order of their ranks."""


class OneProcess:
    """A process that writes and reads checkpoints alone."""

    rank, count = 0, 1

    def gather(self, data: T) -> list[T]:
        """Return the data in a list."""
        return [data]


def write_shards(folder: Path, snapshots: Mapping[str, Snapshot], processes: Processes) -> None:
    """Write a checkpoint to a folder that does not exist, from all processes; they call this together.

    If one fails, all raise, and nothing is left of the checkpoint.

    Args:
        snapshots: snapshots by subfolder. Those of a process whose shards another one writes are empty.

    Raises:
        DiskFull: the checkpoint does not fit on the disk.
        StageFailed: a process could not write its part, or does not see the main process's files.
    """
    rank = processes.rank
    with ExitStack() as unfinished:

        def begin() -> str:
            if rank:
                return ""
            require_space(folder.parent, snapshots)
            return unfinished.enter_context(atomic_folder(folder)).name

        def write_own() -> dict[str, Facts]:
            if not scratch.is_dir():
                raise StageFailed(
                    f"the main process has made {scratch}, and this process does not see it",
                    hint="All processes must see the same files: use a folder that every machine shares.",
                )
            paths = [_write_own(scratch / place, each, rank) for place, each in snapshots.items()]
            return {path.relative_to(scratch).as_posix(): facts_of(path) for path in paths if path}

        def publish() -> None:
            if rank:
                return
            for place, snapshot in snapshots.items():
                for path in (_write_index(scratch / place, snapshot), snapshot.write_data(scratch / place)):
                    files[path.relative_to(scratch).as_posix()] = facts_of(path)
            write_manifest(scratch, files)
            unfinished.close()

        size = sum(snapshot.bytes for snapshot in snapshots.values())
        scratch = folder.parent / _together(processes, folder.parent, size, begin)[0]
        files = dict(ChainMap(*_together(processes, folder.parent, size, write_own)))
        _together(processes, folder.parent, size, publish)


def _together(processes: Processes, folder: Path, size: int, do: Callable[[], T]) -> list[T]:
    """Run a function in every process and return all results; if one raises, all do.

    Args:
        folder: folder on the disk that may become full.
        size: number of bytes to be written there.
    """
    result, failure = None, None
    try:
        result = do()
    except Exception as error:  # whatever it is, the others must not wait for this process
        failure = error
    full = None
    if isinstance(failure, DiskFull):
        full = (failure.needed, failure.free)
    elif failure is not None and is_full(failure):
        full = (size, shutil.disk_usage(folder).free)
    told = processes.gather((result, full, None if failure is None else str(failure)))
    for needed, free in (each[1] for each in told if each[1] is not None):
        raise DiskFull(folder, needed, free)
    if failure is not None:
        raise failure
    for number, (_, _, message) in enumerate(told):
        if message is not None:
            raise StageFailed(f"process {number} could not write its part of a checkpoint: {message}")
    return [cast("T", each[0]) for each in told]


def _write_own(folder: Path, snapshot: Snapshot, rank: int) -> Path | None:
    """Write this process's file of a snapshot to the disk, and return its path."""
    own = {
        f"{name}/{key}": tensor.to_local() if isinstance(tensor, DTensor) else tensor
        for name, found in snapshot.tensors.items()
        for key, tensor in found.items()
        if rank == 0 or snapshot.layout(name, key)
    }
    # rows without columns are rows, too (FRUGAL's moments where Adam moves no column)
    own = {key: tensor.contiguous() for key, tensor in own.items() if rank == 0 or len(tensor)}
    if not own:
        return None
    folder.mkdir(exist_ok=True)
    path = folder / _SHARD.format(rank)
    save_file(own, path)
    flush_one(path)
    return path


def _write_index(folder: Path, snapshot: Snapshot) -> Path:
    """Write the index of a snapshot's tensors, and return its path."""
    index: dict[str, dict[str, Any]] = {}
    for name, found in snapshot.tensors.items():
        index[name] = {}
        for key, tensor in found.items():
            layout = snapshot.layout(name, key)
            shape = tensor.shape if layout is None else layout.shape
            rows = None if layout is None else rows_per_shard(shape[0], layout.shards)
            dtype = str(tensor.dtype).removeprefix("torch.")
            index[name][key] = {"shape": list(shape), "dtype": dtype, "rows_per_file": rows}
    path = folder / INDEX
    path.write_text(json.dumps(index))
    return path


def read_index(folder: Path) -> dict[str, dict[str, StoredTensor]]:
    """Return the tensors of a snapshot by name of the object and key; none is read yet."""
    index: dict[str, dict[str, dict[str, Any]]] = json.loads((folder / INDEX).read_text())
    opened = file_opener()

    def stored(name: str, key: str, facts: Mapping[str, Any]) -> StoredTensor:
        rows = facts["rows_per_file"]
        file = _SHARD.format(0) if rows is None else _SHARD
        return StoredTensor(torch.Size(facts["shape"]), folder, f"{name}/{key}", rows, file, opened)

    return {
        name: {key: stored(name, key, facts) for key, facts in found.items()} for name, found in index.items()
    }
