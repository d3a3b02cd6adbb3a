"""Weights of a model folder: what lies in its safetensors files, and files rewritten with some tensors new.

A safetensors file is 8 bytes of header length (little endian), a JSON header, and the tensors' bytes
without gaps, so a file can be rewritten by streaming: memory holds only the tensors that are replaced.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies in a file: its data type in safetensors' words, shape, and bytes [start, end)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """Safetensors files of a model folder, in the order of their names.

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
    """Every tensor of a model folder by name."""
    return {name: tensor for file in weight_files(folder) for name, tensor in tensors_of(file).items()}


def tensors_of(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file by name, in the order of their bytes."""
    return _read_file(file)[0]


def load_tensor(tensor: StoredTensor, name: str) -> torch.Tensor:
    """One tensor's values."""
    with safe_open(str(tensor.file), framework="pt") as file:
        loaded: torch.Tensor = file.get_tensor(name)
    return loaded


def torch_dtype(tensor: StoredTensor) -> torch.dtype:
    """Data type of a stored floating-point tensor."""
    for dtype, name in _DTYPES.items():
        if name == tensor.dtype:
            return dtype
    raise ModelError(f"{tensor.file.name} stores weights as {tensor.dtype}, which is not a plain float type")


def write_with_replaced(source: Path, target: Path, replaced: Mapping[str, torch.Tensor]) -> None:
    """Write `source` anew at `target` with some tensors replaced; all other bytes are copied as they are.

    Args:
        replaced: new tensors by name; each must be in the file, and may have another shape and data type.
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
                _copy_range(reader, writer, tensor)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file that will not change; copy it where links are not possible."""
    if target.exists() and target.samefile(source):
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _copy_range(reader: BinaryIO, writer: BinaryIO, tensor: StoredTensor) -> None:
    reader.seek(tensor.start)
    left = tensor.end - tensor.start
    while left:
        chunk = reader.read(min(left, _COPY_BYTES))
        writer.write(chunk)
        left -= len(chunk)


def _read_file(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors in the order of their bytes, and the file's metadata."""
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
