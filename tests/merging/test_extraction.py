"""Adapters extracted from differences: exact where the rank allows it, read back by peft and by us."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import merged_by_peft
from merge_models import INPUT, OUTPUT, WORDS, input_model, merge, weights, write_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from cpt.errors import CannotMerge
from merging.adapters import CONFIG, WEIGHTS, read_model
from merging.extraction import Extraction, extract, low_rank_factors

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def changed(base: Path, folder: Path, rank: int, seed: int = 9, **extra: torch.Tensor) -> Path:
    """The base with every matrix of its layers changed by a matrix of a rank; and some tensors as given."""
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    state = model.state_dict()
    for name, weight in state.items():
        if weight.ndim == 2 and name not in (INPUT, OUTPUT):
            weight += 0.1 * torch.randn(weight.shape[0], rank) @ torch.randn(rank, weight.shape[1])
    for name, value in extra.items():
        state[name].copy_(value)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def extracted(base: Path, model: Path, folder: Path, rank: int = 3, **settings: Any) -> Extraction:
    folder.mkdir()
    return extract(read_model("base", base), read_model("model", model), rank, folder, **settings)


def check_round_trip(base: Path, model: Path, adapter: Path) -> None:
    """peft and the merge make the model of the adapter again."""
    theirs, expected = merged_by_peft(base, adapter), AutoModelForCausalLM.from_pretrained(model).state_dict()
    merge("task-arithmetic", base, [input_model(adapter, 1.0)], adapter.parent / "again")
    ours = AutoModelForCausalLM.from_pretrained(adapter.parent / "again").state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(theirs[name], tensor, **CLOSE)
        torch.testing.assert_close(ours[name], tensor, **CLOSE)


@pytest.mark.parametrize("tied", [True, False])
def test_a_difference_of_the_rank_comes_back_whole(tied: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1, tie_word_embeddings=tied)
    model = changed(base, tmp_path / "model", rank=3)
    report = extracted(base, model, tmp_path / "adapter")
    assert report.kept == pytest.approx(1, abs=1e-6)
    assert {each.how for each in report.tensors} == {"low rank"}
    assert len(report.tensors) == 2 * 7
    check_round_trip(base, model, tmp_path / "adapter")


def test_norms_and_changed_rows_are_stored_whole(base: Path, tmp_path: Path) -> None:
    rows = weights(base)[INPUT].clone()
    rows[[1, 4]] += 0.5
    extra = {INPUT: rows, "model.norm.weight": torch.full((16,), 0.7)}
    model = changed(base, tmp_path / "model", rank=2, **extra)
    report = extracted(base, model, tmp_path / "adapter")
    how = {each.tensor: each.how for each in report.tensors}
    assert (how[INPUT], how["model.norm.weight"]) == ("rows", "whole")
    assert json.loads((tmp_path / "adapter" / CONFIG).read_text())["trainable_token_indices"] == {
        "model.embed_tokens": [1, 4]
    }
    check_round_trip(base, model, tmp_path / "adapter")


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_most_of_whose_rows_changed_is_stored_whole(tied: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1, tie_word_embeddings=tied)
    extra = {name: torch.randn(6, 16) for name in ([INPUT] if tied else [INPUT, OUTPUT])}
    model = changed(base, tmp_path / "model", rank=2, **extra)
    report = extracted(base, model, tmp_path / "adapter")
    assert {each.tensor for each in report.tensors if each.how == "whole"} == set(extra)
    check_round_trip(base, model, tmp_path / "adapter")


def test_biases_have_no_place(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1, attention_bias=True)
    name = "model.layers.0.self_attn.q_proj.bias"
    model = changed(base, tmp_path / "model", rank=2, **{name: torch.full((16,), 2.0)})
    report = extracted(base, model, tmp_path / "adapter")
    (left,) = [each for each in report.tensors if each.how == "left out"]
    difference = weights(base)[name] - 2.0
    assert left.tensor == name
    assert left.norm == pytest.approx(float(difference.norm()))
    assert report.kept < 1


def test_what_is_kept_is_the_largest_singular_values(base: Path, tmp_path: Path) -> None:
    model = changed(base, tmp_path / "model", rank=8)
    report = extracted(base, model, tmp_path / "adapter", rank=3)
    before, after = weights(base), weights(model)
    for each in report.tensors:
        values = torch.linalg.svdvals((after[each.tensor] - before[each.tensor]).double())
        assert each.norm == pytest.approx(float(values.norm()), rel=1e-5)
        assert each.kept == pytest.approx(float(values[:3].norm()), rel=1e-5)
    squares = [sum(getattr(each, key) ** 2 for each in report.tensors) for key in ("kept", "norm")]
    assert report.kept == pytest.approx((squares[0] / squares[1]) ** 0.5)


def test_a_rank_above_the_smaller_side_keeps_all(base: Path, tmp_path: Path) -> None:
    model = changed(base, tmp_path / "model", rank=16)
    assert extracted(base, model, tmp_path / "adapter", rank=40).kept == pytest.approx(1, abs=1e-6)
    check_round_trip(base, model, tmp_path / "adapter")


def test_only_the_named_matrices_are_taken(base: Path, tmp_path: Path) -> None:
    model = changed(base, tmp_path / "model", rank=2)
    report = extracted(base, model, tmp_path / "adapter", modules=["q_proj", "layers.1.mlp.up_proj"])
    taken = [each.tensor for each in report.tensors if each.how == "low rank"]
    assert taken == [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
    ]
    with pytest.raises(CannotMerge, match="no matrix of the layers is called w_q") as raised:
        extracted(base, model, tmp_path / "other", modules=["w_q"])
    assert "q_proj" in str(raised.value)


def test_low_rank_only_leaves_the_rest_out(base: Path, tmp_path: Path) -> None:
    extra = {"model.norm.weight": torch.full((16,), 0.7), INPUT: torch.randn(6, 16)}
    model = changed(base, tmp_path / "model", rank=2, **extra)
    report = extracted(base, model, tmp_path / "adapter", low_rank_only=True)
    assert {each.tensor for each in report.tensors if each.how == "left out"} == set(extra)
    assert all("lora_" in key for key in load_file(tmp_path / "adapter" / WEIGHTS))


@pytest.mark.parametrize("many", [True, False])
def test_new_tokens_go_with_their_tokenizer(many: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    model = changed(base, tmp_path / "changed", rank=2)
    larger = AutoModelForCausalLM.from_pretrained(model)
    larger.resize_token_embeddings(len(WORDS) + (9 if many else 2), mean_resizing=False)
    larger.save_pretrained(tmp_path / "larger")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["spleen", "liver"])
    tokenizer.save_pretrained(tmp_path / "larger")
    report = extracted(base, tmp_path / "larger", tmp_path / "adapter")
    assert {each.tensor: each.how for each in report.tensors}[INPUT] == ("whole" if many else "rows")
    merge("task-arithmetic", base, [input_model(tmp_path / "adapter", 1.0)], tmp_path / "again")
    expected = weights(tmp_path / "larger")
    for name, tensor in weights(tmp_path / "again").items():
        torch.testing.assert_close(tensor, expected[name], **CLOSE)
    assert AutoTokenizer.from_pretrained(tmp_path / "again").convert_tokens_to_ids("liver") == 7


def test_moved_tokens_are_refused(base: Path, tmp_path: Path) -> None:
    moved = write_model(tmp_path / "moved", 2, words=(*WORDS[:3], *reversed(WORDS[3:])))
    with pytest.raises(CannotMerge, match="lacks 2 of base's tokens or numbers them otherwise"):
        extracted(base, moved, tmp_path / "adapter")


def test_untied_against_tied_is_refused(base: Path, tmp_path: Path) -> None:
    untied = write_model(tmp_path / "untied", 2, tie_word_embeddings=False)
    with pytest.raises(CannotMerge, match="output embedding of its own"):
        extracted(base, untied, tmp_path / "adapter")


def test_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    wide = write_model(tmp_path / "wide", 2, hidden_size=32)
    with pytest.raises(CannotMerge, match="different architectures"):
        extracted(base, wide, tmp_path / "adapter")


def test_the_same_model_gives_no_adapter(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotMerge, match="none of the selected matrices"):
        extracted(base, base, tmp_path / "adapter")
    assert not list((tmp_path / "adapter").iterdir())


def test_an_adapter_is_extracted_from_an_adapter(base: Path, tmp_path: Path) -> None:
    model = changed(base, tmp_path / "model", rank=6)
    extracted(base, model, tmp_path / "first", rank=6)
    report = extracted(base, tmp_path / "first", tmp_path / "second", rank=6)
    assert report.kept == pytest.approx(1, abs=1e-5)


def test_layers_that_are_stored_transposed(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    settings = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(WORDS), "n_positions": 8}
    GPT2LMHeadModel(GPT2Config(**settings, bos_token_id=0, eos_token_id=1)).save_pretrained(base)
    tensors = load_file(base / "model.safetensors")
    model = tmp_path / "model"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(model)
    AutoTokenizer.from_pretrained(base).save_pretrained(model)
    for name, tensor in tensors.items():
        if ".c_" in name and tensor.ndim == 2:
            tensor += 0.1 * torch.randn(tensor.shape[0], 2) @ torch.randn(2, tensor.shape[1])
    tensors["transformer.ln_f.bias"] += 1
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    assert extracted(base, model, tmp_path / "adapter").kept == pytest.approx(1, abs=1e-6)
    check_round_trip(base, model, tmp_path / "adapter")


def test_large_matrices_are_decomposed_by_random_projection() -> None:
    torch.manual_seed(1)
    exact = torch.randn(1100, 4) @ torch.randn(4, 1200)
    down, up = low_rank_factors(exact, rank=4, seed=1)
    torch.testing.assert_close(up @ down, exact, rtol=1e-4, atol=1e-4)
    again = low_rank_factors(exact, rank=4, seed=1)
    assert torch.equal(again[0], down)
    noisy = exact + 0.01 * torch.randn(1100, 1200)
    values = torch.linalg.svdvals(noisy)
    best = float(values[4:].norm())
    down, up = low_rank_factors(noisy, rank=4, seed=2)
    assert float((noisy - up @ down).norm()) <= 1.001 * best
    torch.testing.assert_close(down.square().sum(dim=1), values[:4], rtol=1e-4, atol=0)
