"""Models whose files and config.json do not fit each other are refused before anything is made of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_architectures import ARCHITECTURES, write_architecture

from cpt import references
from cpt.errors import ModelError, StageFailed
from cpt.models.folder_files import INDEX, SINGLE
from cpt.models.loading import check_model
from cpt.models.packed_model import load_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    tensors = load_file(folder / SINGLE)
    save_file(change(tensors), folder / SINGLE, metadata={"format": "pt"})


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refusal(folder: Path) -> str:
    """What is said of the folder, the same when it is resolved as when it is loaded."""
    with pytest.raises(ModelError) as resolving:
        references.resolve_model(str(folder))
    assert resolving.value.exit_code == 2
    return resolving.value.message


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sound_models_of_all_kinds_pass_and_each_tensor_is_needed(kind: str, tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, kind, 40)
    check_model(folder)
    inside = next(name for name in sorted(load_file(folder / SINGLE)) if ".0." in name)
    change_weights(folder, lambda found: {name: each for name, each in found.items() if name != inside})
    with pytest.raises(ModelError, match="missing from the files"):
        check_model(folder)
    change_weights(folder, lambda found: {**found, inside: torch.zeros(3)})
    with pytest.raises(ModelError, match="of another shape"):
        check_model(folder)


def renamed_layer(found: Tensors) -> Tensors:
    return {name.replace("layers.0.", "layers.77."): each for name, each in found.items()}


def test_a_layer_under_another_name_is_missing_and_left_over(copy: Path) -> None:
    change_weights(copy, renamed_layer)
    said = refusal(copy)
    assert "missing from the files: model.layers.0.input_layernorm.weight" in said
    assert "in the files, but not in the model: model.layers.77.input_layernorm.weight" in said
    assert "… (9 in all)" in said
    with pytest.raises(ModelError, match=r"missing from the files: model\.layers\.0"):
        load_model(copy)


@pytest.mark.parametrize(("layers", "what"), [(5, "missing from the files"), (1, "not in the model")])
def test_the_number_of_layers_must_be_that_of_the_files(copy: Path, layers: int, what: str) -> None:
    change_json(copy / "config.json", num_hidden_layers=layers)
    assert what in refusal(copy)
    with pytest.raises(ModelError, match=what):
        load_model(copy)


def test_a_missing_output_embedding_is_named_unless_it_is_tied(copy: Path) -> None:
    assert "lm_head.weight" not in load_file(copy / SINGLE)
    check_model(copy)
    change_json(copy / "config.json", tie_word_embeddings=False)
    assert "missing from the files: lm_head.weight" in refusal(copy)


def test_what_old_checkpoints_hold_and_transformers_ignores_is_no_fault(copy: Path) -> None:
    change_weights(
        copy, lambda found: {**found, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    )
    check_model(copy)
    load_model(copy)


def test_a_folder_is_checked_again_when_a_file_changes(copy: Path) -> None:
    check_model(copy)
    change_weights(copy, renamed_layer)
    with pytest.raises(ModelError):
        check_model(copy)


def test_a_model_of_unknown_kind_is_left_to_what_loads_it(copy: Path) -> None:
    change_json(copy / "config.json", model_type="no-such-thing")
    check_model(copy)
    with pytest.raises(ModelError, match="no model that transformers knows"):
        load_model(copy)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_size": 64}, "of another shape: model.embed_tokens.weight [300, 32] for [300, 64]"),
        ({"vocab_size": 9999}, "of another shape: model.embed_tokens.weight [300, 32] for [9999, 32]"),
        ({"hidden_size": -64}, "config.json describes no model that can be built"),
        ({"hidden_size": "big"}, "config.json describes no model that can be built"),
        ({"hidden_size": 2**40}, "for [300, 1099511627776]"),
        ({"num_attention_heads": 0}, "config.json describes no model that can be built"),
        ({"architectures": [5]}, "config.json describes no model that can be built"),
        ({"model_type": 5}, "config.json describes no model that can be built"),
        ({"num_hidden_layers": -2}, "config.json: num_hidden_layers: -2"),
        ({"num_hidden_layers": 10**9}, "config.json: num_hidden_layers: 1,000,000,000"),
        ({"transformers_weights": "other.safetensors"}, "config.json: transformers_weights"),
    ],
)
def test_impossible_settings_are_named(copy: Path, values: dict[str, Any], said: str) -> None:
    change_json(copy / "config.json", **values)
    assert said in refusal(copy)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"[" * 100_000])
def test_damaged_json_is_named(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    assert str(copy / name) in refusal(copy)


def test_all_damaged_files_are_named_at_once(copy: Path) -> None:
    (copy / "generation_config.json").write_text("{")
    change_json(copy / "tokenizer_config.json", bos_token=5, eos_token={"text": "x"})
    said = refusal(copy)
    assert "generation_config.json is not valid JSON" in said
    assert "tokenizer_config.json: bos_token: 5 is no token" in said
    assert "tokenizer_config.json: eos_token" in said


@pytest.mark.parametrize(
    "index",
    [
        "",
        {"weight_map": {"a": "a.safetensors"}},
        {"metadata": {}},
        {"metadata": {}, "weight_map": {}},
        {"metadata": {}, "weight_map": {"a": 5}},
        {"metadata": {}, "weight_map": {"a": "../model/a.safetensors"}},
        {"metadata": {}, "weight_map": ["a.safetensors"]},
    ],
)
def test_a_damaged_index_is_named(copy: Path, index: Any) -> None:
    (copy / SINGLE).rename(copy / "a.safetensors")
    (copy / INDEX).write_text(index if isinstance(index, str) else json.dumps(index))
    assert str(copy / INDEX) in refusal(copy)


def not_a_number(found: Tensors) -> Tensors:
    found["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    found["model.norm.weight"][0] = float("inf")
    return found


def test_weights_that_are_no_numbers_are_named_on_loading(copy: Path) -> None:
    change_weights(copy, not_a_number)
    with pytest.raises(ModelError, match=r"up_proj\.weight and 1 more"):
        load_model(copy)


def test_answers_that_are_no_numbers_though_the_weights_are(copy: Path) -> None:
    """Products of weights of this size are beyond float32."""
    large = torch.full((32,), 3e38)
    change_weights(copy, lambda found: {**found, "model.norm.weight": large})
    with pytest.raises(ModelError, match=r"answers .* are no finite numbers, though all its weights are"):
        load_model(copy)


def test_an_encoders_heads_of_pretraining_are_left_over(tmp_path: Path) -> None:
    """bert-base-uncased names the masked language model, and its file holds the pooler as well."""
    from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

    config = BertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    BertForPreTraining(config).save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"architectures": [BertForMaskedLM.__name__]}))
    check_model(tmp_path)


def test_a_sound_model_of_another_kind_is_left_to_the_padded_reading(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(StageFailed, match="does not load"):
        load_model(tmp_path)
