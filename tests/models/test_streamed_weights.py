"""Weights that are written tensor by tensor are the bytes that `save_pretrained` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cpt.errors import StageFailed
from cpt.models.packed_model import load_model
from cpt.models.streamed_weights import write_weights


@pytest.mark.parametrize("largest", ["50GB", "40KB"])
def test_bytes_are_those_of_transformers(tiny_model: Path, tmp_path: Path, largest: str) -> None:
    model, asked = load_model(tiny_model), []
    model.save_pretrained(tmp_path / "whole", max_shard_size=largest)
    tensors = {name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}

    def tensor(name: str) -> torch.Tensor:
        asked.append(name)
        return tensors[name]

    (tmp_path / "streamed").mkdir()
    write_weights(tmp_path / "streamed", shapes, tensor, largest=largest)
    written = {file.name: file.read_bytes() for file in (tmp_path / "streamed").iterdir()}
    expected = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    assert written == {name: expected[name] for name in expected if name.startswith("model")}
    assert len(written) == (1 if largest == "50GB" else 4)
    assert sorted(asked) == sorted(tensors)
    first, asked = list(asked), []
    write_weights(tmp_path / "nothing", shapes, tensor, writes=False, largest=largest)
    assert asked == first
    assert not (tmp_path / "nothing").exists()


def test_types_are_in_the_order_of_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        name: torch.arange(6).to(dtype).view(2, 3)
        for name, dtype in {
            "b": torch.float32,
            "a": torch.bfloat16,
            "d": torch.int64,
            "c": torch.bool,
            "e": torch.float32,
            "f": torch.float16,
            "g": torch.int32,
            "h": torch.uint8,
        }.items()
    }
    save_file(tensors, tmp_path / "expected", {"format": "pt"})
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    write_weights(tmp_path, shapes, tensors.__getitem__)
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()


def test_another_type_or_shape_is_refused(tmp_path: Path) -> None:
    complex_one = {"a": torch.empty(2, dtype=torch.complex64, device="meta")}
    with pytest.raises(StageFailed, match="a has the data type"):
        write_weights(tmp_path, complex_one, lambda _: torch.zeros(2))
    with pytest.raises(StageFailed, match=r"a is \[3\], not \[2\]"):
        write_weights(tmp_path, {"a": torch.empty(2, device="meta")}, lambda _: torch.zeros(3))


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_weights(tmp_path, {"norm": torch.empty(3, device="meta")}, lambda _: torch.ones(3))
