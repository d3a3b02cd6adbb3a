"""A model without values has the shapes, buffers and ties of the loaded one, and gives its values by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_architectures import write_architecture
from transformers import LlamaForCausalLM

from cpt.errors import ModelError
from cpt.models import weights
from cpt.models.packed_model import load_model
from cpt.models.unloaded_model import initial_rows, is_unloaded, unloaded_model


def in_two_files(folder: Path, target: Path) -> Path:
    """Write the model again, in two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    target.mkdir()
    for file in folder.iterdir():
        if file.name != "model.safetensors":
            (target / file.name).write_bytes(file.read_bytes())
    names = sorted(tensors)
    files = {f"model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for file, inside in files.items():
        save_file({name: tensors[name] for name in inside}, target / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, each in files.items() for name in each}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


@pytest.mark.parametrize("files", [1, 2])
def test_values_are_those_of_the_loaded_model(tiny_model: Path, tmp_path: Path, files: int) -> None:
    folder = tiny_model if files == 1 else in_two_files(tiny_model, tmp_path / "two")
    model, loaded = unloaded_model(folder), load_model(folder)
    assert is_unloaded(model)
    assert not is_unloaded(loaded)
    parameters, expected = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert parameters.keys() == expected.keys()
    for name, parameter in parameters.items():
        rows = initial_rows(parameter)
        assert parameter.is_meta
        assert parameter.dtype == torch.float32
        assert rows is not None
        whole = torch.cat([rows(0, 3), rows(3, 3), rows(3, len(parameter))])
        assert torch.equal(whole, expected[name].detach())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, buffer in loaded.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer)
    assert model.config.to_diff_dict() == loaded.config.to_diff_dict()
    assert model.generation_config == loaded.generation_config
    assert not model.training


def test_only_asked_rows_are_read(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    class Opened:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Opened:
            return self

        def __exit__(self, *_: object) -> None: ...
        def get_slice(self, name: str) -> Opened:
            read.append(name)
            return self

        def __getitem__(self, rows: slice) -> torch.Tensor:
            read.append(rows)
            return torch.zeros(1)

    model = unloaded_model(tiny_model)
    monkeypatch.setattr(weights, "safe_open", Opened)
    rows = initial_rows(model.get_input_embeddings().weight)
    assert rows is not None
    rows(5, 9)
    assert read == ["model.embed_tokens.weight", slice(5, 9)]


@pytest.mark.parametrize("name", ["names changed on loading", "text part of a larger model"])
def test_a_model_whose_parameters_have_other_names_must_be_loaded_whole(tmp_path: Path, name: str) -> None:
    assert unloaded_model(write_architecture(tmp_path / "model", name, rows=50)) is None


def test_a_model_with_a_buffer_that_nothing_computes_must_be_loaded_whole(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaForCausalLM, "initialize_weights", lambda _: None)
    assert unloaded_model(tiny_model) is None


def test_a_damaged_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    copy = in_two_files(tiny_model, tmp_path / "two")
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks the weights"):
        unloaded_model(copy)
