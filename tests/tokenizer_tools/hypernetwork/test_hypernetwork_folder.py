"""The folder of a hypernetwork: saved and loaded alike, checked against the model, damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_hypernetworks import random_forms, write_hypernetwork
from safetensors.torch import load_file, save_file

from cpt.errors import DataError, MissingInput, ModelError
from tokenizer_tools.hypernetwork import folder as folders
from tokenizer_tools.hypernetwork.folder import (
    fits,
    load_hypernetwork,
    read_facts,
    require_fit,
    source_vocabulary,
)
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.source import read_source
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms

EMBEDDING = "model.embed_tokens.weight"


def edited(model: Path, output: Path, dtype: torch.dtype = torch.float32, **moved: float) -> Path:
    """A copy of a model, its embedding in another data type and, by `rows`, moved."""
    shutil.copytree(model, output)
    tensors = load_file(model / "model.safetensors")
    tensors[EMBEDDING] = (tensors[EMBEDDING] + moved.get("rows", 0)).to(dtype)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    return output


@pytest.mark.parametrize("variant", ["residual", "zett"])
def test_saved_and_loaded_networks_predict_alike(variant: str, tiny_model: Path, tmp_path: Path) -> None:
    network = write_hypernetwork(tmp_path / "h", tiny_model, variant=variant, layers=2, pieces=5)
    loaded = load_hypernetwork(tmp_path / "h", tiny_model)
    assert not loaded.training
    forms = random_forms(20, length=5, size=300)
    assert torch.equal(loaded(*forms)["tied"], network(*forms)["tied"])
    facts = read_facts(tmp_path / "h")
    assert facts.hypernetwork == network.config
    assert (facts.source.model, facts.source.size) == (str(tiny_model), 300)
    assert facts.training.figures == {"bpb": 1.25}
    tokens = read_source(tiny_model).vocabulary.tokens
    assert source_vocabulary(tmp_path / "h").tokens == tokens


def test_loading_leaves_the_generator_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "h", tiny_model)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_hypernetwork(tmp_path / "h", tiny_model)
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_are_without_source_rows(tiny_model: Path, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "h", tiny_model)
    saved = load_file(tmp_path / "h" / folders.WEIGHTS)
    assert all(len(tensor) != 300 for tensor in saved.values())


def test_the_card_names_source_data_steps_and_figures(tiny_model: Path, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "h", tiny_model)
    card = (tmp_path / "h" / folders.CARD).read_text()
    facts = read_facts(tmp_path / "h").source
    for word in (str(tiny_model), facts.rows_sha256, facts.tokens_sha256, "a.jsonl", "| steps | 3 |"):
        assert word in card
    assert "| bpb | 1.25 |" in card
    assert '"rate": 0.0001' in card


def test_another_model_is_refused(
    tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    write_hypernetwork(tmp_path / "h", tiny_model)
    refusals = {
        another_model("seed", seed=1): "its embeddings have other values",
        another_model("fewer", vocabulary=290): "its tokenizer has other tokens",
        edited(tiny_model, tmp_path / "moved", rows=1e-3): "its embeddings have other values",
        edited(tiny_model, tmp_path / "rounded", torch.bfloat16): "its embeddings have other values",
    }
    for model, reason in refusals.items():
        assert not fits(tmp_path / "h", model)
        for refused in (require_fit, load_hypernetwork):
            with pytest.raises(DataError, match=reason) as raised:
                refused(tmp_path / "h", model)
            assert f"was trained for {tiny_model}, not for {model}" in raised.value.message
            assert "the setting `base` of the method hypernetwork" in (raised.value.hint or "")


def test_the_same_values_in_a_wider_type_fit(tiny_model: Path, tmp_path: Path) -> None:
    narrow = edited(tiny_model, tmp_path / "narrow", torch.bfloat16)
    write_hypernetwork(tmp_path / "h", narrow)
    wide = edited(narrow, tmp_path / "wide", torch.float32)
    assert fits(tmp_path / "h", wide)
    forms = random_forms(9, size=300)
    rows = [load_hypernetwork(tmp_path / "h", model)(*forms)["tied"] for model in (narrow, wide)]
    assert torch.equal(*rows)


def test_damaged_folders(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="is no hypernetwork"):
        read_facts(tiny_model)
    write_hypernetwork(tmp_path / "h", tiny_model)
    config = json.loads((tmp_path / "h" / folders.CONFIG).read_text())
    (tmp_path / "h" / folders.CONFIG).write_text(json.dumps({**config, "strange": 1}))
    with pytest.raises(ModelError, match="strange: Extra inputs"):
        read_facts(tmp_path / "h")
    more = {**config, "hypernetwork": {**config["hypernetwork"], "layers": 3}}
    (tmp_path / "h" / folders.CONFIG).write_text(json.dumps(more))
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_hypernetwork(tmp_path / "h", tiny_model)
    (tmp_path / "h" / folders.CONFIG).write_text(json.dumps(config))
    (tmp_path / "h" / folders.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_hypernetwork(tmp_path / "h", tiny_model)


def test_prediction_in_chunks_equals_prediction_at_once(tiny_model: Path, tmp_path: Path) -> None:
    network = write_hypernetwork(tmp_path / "h", tiny_model)
    ids, mask = random_forms(23, size=300)
    made = predict_rows(network, SurfaceForms(ids, mask, 0), tokens_at_once=4)["tied"]
    torch.testing.assert_close(made, network(ids, mask)["tied"].detach(), rtol=1e-5, atol=1e-5)


def test_rows_are_predicted_in_the_type_of_the_source(tiny_model: Path, tmp_path: Path) -> None:
    narrow = edited(tiny_model, tmp_path / "narrow", torch.bfloat16)
    network = write_hypernetwork(tmp_path / "h", narrow)
    ids, mask = random_forms(23, size=300)
    made = predict_rows(network, SurfaceForms(ids, mask, 0))["tied"]
    assert made.dtype == torch.bfloat16
    exact = network(ids, mask)["tied"].detach()
    torch.testing.assert_close(made.float(), exact, rtol=0.05, atol=0.05 * exact.std().item())
