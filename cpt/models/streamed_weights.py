"""Write the weights of a model folder tensor by tensor, with the bytes that `save_pretrained` writes.

safetensors writes a file from tensors that are all in memory. Here names, shapes and data types are known
first; each tensor is asked for when its bytes are due, and memory holds one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cpt.errors import StageFailed
from cpt.models.folder_files import INDEX, SINGLE

LARGEST_FILE = "50GB"
"""Size of a file from which transformers begins another."""

_ORDER = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names of data types, in the order in which a file holds their tensors."""


def write_weights(
    folder: Path,
    shapes: Mapping[str, torch.Tensor],
    tensor: Callable[[str], torch.Tensor],
    *,
    writes: bool = True,
    largest: str = LARGEST_FILE,
) -> None:
    """Write the safetensors files of a model folder, and their index where there are several.

    Args:
        folder: Folder of the model.
        shapes: Tensors on the meta device, by name; none is tied.
        tensor: Function that returns the tensor of a name. It is called once for each, in the same order in
            all processes.
        writes: True for the process that writes; others only call `tensor`.
        largest: Size from which another file begins.

    Raises:
        StageFailed: A tensor has a data type that is not written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from transformers.core_model_loading import dot_natural_key

    pattern = SINGLE.replace(".safetensors", "{suffix}.safetensors")
    by_number = {key: shapes[key] for key in sorted(shapes, key=dot_natural_key)}
    files = split_torch_state_dict_into_shards(by_number, filename_pattern=pattern, max_shard_size=largest)
    for name, inside in files.filename_to_tensors.items():
        ordered = _in_order({key: shapes[key] for key in inside})
        if not writes:
            for key in ordered:
                tensor(key)
            continue
        with (folder / name).open("wb") as file:
            _write_header(file, ordered)
            for key in ordered:
                _write_tensor(file, key, ordered[key], tensor(key))
    if writes and files.is_sharded:
        total = {"total_parameters": sum(each.numel() for each in shapes.values()), **files.metadata}
        index = {"metadata": total, "weight_map": files.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _in_order(shapes: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors in the order of their bytes in a file: by data type, then by name."""
    order = list(_ORDER)
    for name, each in shapes.items():
        if each.dtype not in _ORDER:
            raise StageFailed(f"{name} has the data type {each.dtype}, which is not written")
    return dict(sorted(shapes.items(), key=lambda item: (order.index(item[1].dtype), item[0].encode())))


def _write_header(file: BinaryIO, shapes: Mapping[str, torch.Tensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, each in shapes.items():
        end = offset + each.numel() * each.element_size()
        header[name] = {
            "dtype": _ORDER[each.dtype],
            "shape": list(each.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little"))
    file.write(encoded)


def _write_tensor(file: BinaryIO, name: str, expected: torch.Tensor, tensor: torch.Tensor) -> None:
    if tensor.shape != expected.shape:
        raise StageFailed(
            f"{name} is {list(tensor.shape)}, not {list(expected.shape)}", hint="Please report this."
        )
    converted = tensor.detach().to("cpu", expected.dtype).contiguous()
    file.write(converted.flatten().view(torch.uint8).numpy().data)  # numpy's `tofile` hides a full disk
