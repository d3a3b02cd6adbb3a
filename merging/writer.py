"""Writes a model's weights tensor by tensor: safetensors files, their index, and checksums.

What each file will hold is known beforehand, so its header is written first and the tensors' bytes follow
as they come; nothing is kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
import torch

from cpt.models.folder_files import INDEX, SINGLE
from merging.kernels import TensorPlan

CHECKSUMS = "SHA256SUMS"
"""`sha256sum -c SHA256SUMS` checks a folder."""

_STORED = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_WAITING = 8


@dataclass(frozen=True)
class Shard:
    """A file and the tensors in it, in their order."""

    file: str
    tensors: tuple[TensorPlan, ...]


def size_of(tensor: TensorPlan) -> int:
    """Bytes of a tensor of the result."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize


def shards(tensors: Sequence[TensorPlan], shard_bytes: int) -> list[Shard]:
    """Tensors divided among files of at most `shard_bytes`; a larger tensor has a file of its own."""
    groups: list[list[TensorPlan]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + size_of(tensor) > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += size_of(tensor)
    # wide types first, so that every tensor begins at a multiple of its item's size
    ordered = [sorted(group, key=lambda tensor: -tensor.dtype.itemsize) for group in groups]
    if len(groups) == 1:
        return [Shard(SINGLE, tuple(ordered[0]))]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", tuple(group))
        for number, group in enumerate(ordered, start=1)
    ]


def write_weights(folder: Path, layout: Sequence[Shard], checksums: dict[str, str]) -> Iterator[TensorPlan]:
    """Merge and write every tensor; yields each once it is on its way to the disk.

    Args:
        checksums: receives SHA-256 of each file by its name, taken of what is written.
    """
    for shard in layout:
        with (folder / shard.file).open("wb") as file:
            behind = _Behind(file)
            try:
                behind.write(_header(shard.tensors))
                for tensor in shard.tensors:
                    for chunk in tensor.chunks():
                        behind.write(_bytes(chunk))
                    yield tensor
            finally:
                checksums[shard.file] = behind.finish()
    if len(layout) > 1:
        _write_index(folder, layout)


def write_checksums(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Write SHA-256 of every file of a folder, in sha256sum's format; returns them by file name.

    Args:
        known: of files that need not be read for it.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    sums = {path.name: known.get(path.name) or _sha256(path) for path in files}
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _header(tensors: Iterable[TensorPlan]) -> memoryview:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": _STORED[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size_of(tensor)],
        }
        offset += size_of(tensor)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return memoryview(len(encoded).to_bytes(8, "little") + encoded)


def _write_index(folder: Path, layout: Sequence[Shard]) -> None:
    index = {
        "metadata": {"total_size": sum(size_of(tensor) for shard in layout for tensor in shard.tensors)},
        "weight_map": {tensor.name: shard.file for shard in layout for tensor in shard.tensors},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _bytes(chunk: torch.Tensor) -> memoryview:
    return chunk.contiguous().flatten().view(torch.uint8).numpy().data


class _Behind:
    """Writes to a file in a thread of its own, a few chunks behind."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._queue: queue.Queue[memoryview | None] = queue.Queue(maxsize=_WAITING)
        self._error: OSError | None = None
        self._digest = hashlib.sha256()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def write(self, content: memoryview) -> None:
        """Have something written.

        Raises:
            OSError: what was given before could not be.
        """
        if self._error is not None:
            raise self._error
        self._queue.put(content)

    def finish(self) -> str:
        """Wait until all is written; its SHA-256."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def _work(self) -> None:
        while (content := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._file.write(content)
                    self._digest.update(content)
                except OSError as error:
                    self._error = error
