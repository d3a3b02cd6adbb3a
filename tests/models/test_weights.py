"""Safetensors files rewritten by streaming, against the library that reads and writes them whole."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cpt.errors import DataError
from cpt.models.folder_files import weight_names
from cpt.models.vocabulary import check_shapes, vocabulary_tensors, write_resized
from cpt.models.weights import load_tensor, stored_tensors, weight_files, write_with_replaced

TENSORS = {
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "a.weight": torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "count": torch.tensor(7),
    "flag": torch.tensor([1, 0, 1], dtype=torch.uint8),
}


def test_a_replaced_tensor_changes_and_every_other_byte_stays(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    new = torch.randn(9, 2).bfloat16()
    write_with_replaced(tmp_path / "model.safetensors", tmp_path / "new.safetensors", {"a.weight": new})
    loaded = load_file(tmp_path / "new.safetensors")
    assert torch.equal(loaded["a.weight"], new)
    for name in ("b.weight", "count", "flag"):
        assert torch.equal(loaded[name], TENSORS[name])
        assert loaded[name].dtype == TENSORS[name].dtype


def test_a_replaced_tensor_may_have_another_data_type(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    write_with_replaced(
        tmp_path / "model.safetensors",
        tmp_path / "new.safetensors",
        {"a.weight": TENSORS["a.weight"].float()},
    )
    assert torch.equal(load_file(tmp_path / "new.safetensors")["a.weight"], TENSORS["a.weight"].float())


def test_stored_tensors_say_what_lies_where(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    found = stored_tensors(tmp_path)
    assert found["b.weight"].shape == (3, 4)
    assert found["a.weight"].dtype == "BF16"
    assert torch.equal(load_tensor(found["b.weight"], "b.weight"), TENSORS["b.weight"])
    content = (tmp_path / "model.safetensors").read_bytes()[found["b.weight"].start : found["b.weight"].end]
    assert content == TENSORS["b.weight"].numpy().tobytes()


def test_of_one_file_and_an_index_the_one_file_is_read_as_transformers_does(
    tiny_model: Path, tmp_path: Path
) -> None:
    """An index that another save has left there must not decide what is changed, merged or fingerprinted."""
    both = tmp_path / "both"
    shutil.copytree(tiny_model, both)
    stale = {name: torch.zeros_like(each) for name, each in load_file(both / "model.safetensors").items()}
    save_file(stale, both / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(stale, "model-00001-of-00001.safetensors")}
    (both / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = AutoModelForCausalLM.from_pretrained(both).get_input_embeddings().weight
    assert loaded.any()
    name = vocabulary_tensors(both).input
    assert torch.equal(load_tensor(stored_tensors(both)[name], name), loaded)
    assert [file.name for file in weight_files(both)] == weight_names(both) == ["model.safetensors"]
    rows = torch.cat([loaded.detach(), loaded.detach()[:4]])
    write_resized(both, tmp_path / "resized", {name: rows}, len(rows))
    assert not (tmp_path / "resized/model.safetensors.index.json").exists()
    check_shapes(tmp_path / "resized")


def test_missing_and_broken_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.safetensors"):
        weight_files(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(DataError, match="not a readable safetensors file"):
        stored_tensors(tmp_path)


def test_a_folder_that_does_not_fit_its_configuration_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    check_shapes(tiny_model)
    names = vocabulary_tensors(tiny_model)
    assert names.tied
    write_resized(tiny_model, tmp_path, {}, rows=999)
    with pytest.raises(DataError, match=r"embed_tokens.*999"):
        check_shapes(tmp_path)


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        vocabulary_tensors(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(DataError, match="no model that transformers knows"):
        vocabulary_tensors(tmp_path)
