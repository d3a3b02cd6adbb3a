"""Weights of a model folder: reading its safetensors files, and rewriting them with some tensors replaced.

A safetensors file is 8 bytes of header length (little endian), a JSON header, and the tensors' bytes
without gaps, so a file can be rewritten by streaming: memory holds only the tensors that are replaced.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from cpt.atomic import atomic_file
from cpt.errors import ModelError
from cpt.models.folder_files import weight_names

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
_COPY_BYTES = 16 * 2**20
_INFINITY: dict[str, tuple[np.dtype[Any], int]] = {
    "F64": (np.dtype("<u8"), 0x7FF0_0000_0000_0000),
    "F32": (np.dtype("<u4"), 0x7F80_0000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
}
"""Bits of infinity as an integer, by data type: a number is NaN if its bits without the sign are larger."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its data type in safetensors' words, shape, and bytes [start, end)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder, in the order of their names.

    Of a folder with one file and an index, the one file, which is what transformers loads.

    Raises:
        ModelError: the folder holds no safetensors weights, or its index is damaged or names a file that is
            not there.
    """
    files = [folder / name for name in weight_names(folder)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(
            f"{folder} lacks the weights {', '.join(missing)}",
            hint="A model folder holds model.safetensors, or several files and model.safetensors.index.json.",
        )
    return files


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return every tensor of a model folder by name."""
    return {name: tensor for file in weight_files(folder) for name, tensor in tensors_of(file).items()}


def count_parameters(folder: Path) -> int:
    """Return the number of weights in a model folder; those of tied matrices count once."""
    return sum(math.prod(tensor.shape) for tensor in stored_tensors(folder).values())


def tensors_of(file: Path) -> dict[str, StoredTensor]:
    """Return every tensor of a safetensors file by name, in the order of their bytes."""
    return _read_file(file)[0]


def load_tensor(tensor: StoredTensor, name: str) -> torch.Tensor:
    """Return one tensor's values."""
    with safe_open(str(tensor.file), framework="pt") as file:
        loaded: torch.Tensor = file.get_tensor(name)
    return loaded


def load_rows(tensor: StoredTensor, name: str, start: int, stop: int) -> torch.Tensor:
    """Return rows [start, stop) of one tensor's values; no other rows are read."""
    if start == stop:
        return torch.empty((0, *tensor.shape[1:]), dtype=torch_dtype(tensor))
    with safe_open(str(tensor.file), framework="pt") as file:
        rows: torch.Tensor = file.get_slice(name)[start:stop]
    return rows


def torch_dtype(tensor: StoredTensor) -> torch.dtype:
    """Return the data type of a stored floating-point tensor."""
    for dtype, name in _DTYPES.items():
        if name == tensor.dtype:
            return dtype
    raise ModelError(f"{tensor.file.name} stores weights as {tensor.dtype}, which is not a plain float type")


def write_with_replaced(source: Path, target: Path, replaced: Mapping[str, torch.Tensor]) -> None:
    """Write `source` anew at `target` with some tensors replaced; all other bytes are copied as they are.

    Args:
        replaced: new tensors by name; each must be in the file, and may have another shape and data type.

    Raises:
        ModelError: a copied tensor holds NaN. Nothing is written then.
    """
    tensors, metadata = _read_file(source)
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, tensor in tensors.items():
        new = replaced.get(name)
        size = tensor.end - tensor.start if new is None else new.numel() * new.element_size()
        header[name] = {
            "dtype": tensor.dtype if new is None else _DTYPES[new.dtype],
            "shape": list(tensor.shape if new is None else new.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with (
        atomic_file(target, durable=False) as scratch,
        source.open("rb") as reader,
        scratch.open("wb") as writer,
    ):
        writer.write(len(encoded).to_bytes(8, "little"))
        writer.write(encoded)
        for name, tensor in tensors.items():
            if name in replaced:
                replaced[name].contiguous().flatten().view(torch.uint8).numpy().tofile(writer)
            else:
                _copy_range(reader, writer, tensor, name)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file that will not change; copy it where links are not possible."""
    if target.exists() and target.samefile(source):
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _copy_range(reader: BinaryIO, writer: BinaryIO, tensor: StoredTensor, name: str) -> None:
    """Copy a tensor's bytes, and look for NaN in them, which costs little beside the copy."""
    reader.seek(tensor.start)
    left = tensor.end - tensor.start
    while left:
        chunk = reader.read(min(left, _COPY_BYTES))
        if tensor.dtype in _INFINITY and _has_nan(chunk, *_INFINITY[tensor.dtype]):
            raise ModelError(
                f"the tensor {name} in {tensor.file} holds NaN: it is damaged, or training diverged",
                hint="Start from an earlier checkpoint, or get the model again.",
            )
        writer.write(chunk)
        left -= len(chunk)


def _has_nan(chunk: bytes, integer: np.dtype[Any], infinity: int) -> bool:
    bits = np.frombuffer(chunk, integer)
    return bool(((bits & integer.type(np.iinfo(integer).max >> 1)) > infinity).any())


def _read_file(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors in the order of their bytes, and the file's metadata."""
    try:
        with safe_open(str(file), framework="pt"):  # checks the header against the file
            pass
        with file.open("rb") as reader:
            length = int.from_bytes(reader.read(8), "little")
            header = json.loads(reader.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{file} is not a readable safetensors file: {error}") from error
    metadata = header.pop("__metadata__", None) or {}
    first = 8 + length
    tensors = {
        name: StoredTensor(
            file,
            entry["dtype"],
            tuple(entry["shape"]),
            first + entry["data_offsets"][0],
            first + entry["data_offsets"][1],
        )
        for name, entry in header.items()
    }
    return dict(sorted(tensors.items(), key=lambda item: item[1].start)), metadata
