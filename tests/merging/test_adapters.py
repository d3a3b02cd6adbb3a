"""Adapters as parents of a merge, against peft's own merge, and adapters that cannot be merged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import merged_by_peft, write_adapter
from merge_models import INPUT, OUTPUT, WORDS, input_model, merge, refused, weights, write_model
from peft import AdaLoraConfig, TrainableTokensConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from cpt.models.token_ids import read_new_tokens
from merging.adapters import CONFIG, WEIGHTS, read_adapter, read_model
from merging.candidates import read_candidate
from merging.plan import plan
from merging.request import InputModel, MergeRequest
from merging.run import run

CLOSE = {"rtol": 2e-6, "atol": 2e-7}
"""Float32 rounding of weights of about 0.1: blocks of rows are multiplied apart."""

ATTENTION = ["q_proj", "v_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "target_modules": ATTENTION},
    "all linear": {"r": 3, "target_modules": "all-linear"},
    "rslora": {"r": 4, "target_modules": ATTENTION, "use_rslora": True},
    "dora": {"r": 4, "target_modules": [*ATTENTION, "down_proj"], "use_dora": True},
    "embedding": {"r": 2, "target_modules": ["q_proj", "embed_tokens"]},
    "dora embedding": {"r": 2, "target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
    "whole modules": {"r": 4, "target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "norm"]},
    "rows": {"r": 4, "target_modules": ATTENTION, "trainable_token_indices": [4, 1]},
    "rows of both": {
        "r": 4,
        "target_modules": ATTENTION,
        "trainable_token_indices": {"embed_tokens": [4, 1], "lm_head": [2]},
    },
    "output": {"r": 4, "target_modules": ["q_proj", "lm_head"]},
    "patterns": {
        "r": 4,
        "target_modules": ATTENTION,
        "rank_pattern": {"layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"v_proj": 1, r"layers\.0\.self_attn\.q_proj": 9},
    },
    "adalora": {"kind": AdaLoraConfig, "init_r": 5, "target_r": 3, "target_modules": ATTENTION},
    "biases": {"r": 4, "target_modules": ATTENTION, "bias": "lora_only"},
}
ONLY_UNTIED = ("rows of both", "output", "whole modules")


def merged_alone(base: Path, adapter: Path, output: Path, **request: Any) -> dict[str, torch.Tensor]:
    """The adapter as the only task vector, with weight 1."""
    merge("task-arithmetic", base, [input_model(adapter, 1.0)], output, **request)
    return weights(output)


def check_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_merged_with_weight_one_it_is_what_peft_makes(kind: str, tied: bool, tmp_path: Path) -> None:
    if tied and kind in ONLY_UNTIED:
        pytest.skip("takes the embeddings apart: refused below")
    base = write_model(tmp_path / "base", 1, tie_word_embeddings=tied, attention_bias=kind == "biases")
    adapter = write_adapter(base, tmp_path / "adapter", **KINDS[kind])
    theirs = merged_by_peft(base, adapter)
    ours = merged_alone(base, adapter, tmp_path / "out")
    check_same(ours, theirs)
    before = weights(base)
    assert any(not torch.equal(ours[name], before[name]) for name in ours)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    check_same(loaded, theirs)


@pytest.mark.parametrize("modules", [["embed_tokens"], ["model.embed_tokens"]])
def test_tied_embeddings_that_are_trained_whole(modules: list[str], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    settings = {"r": 2, "target_modules": ATTENTION, "modules_to_save": modules}
    adapter = write_adapter(base, tmp_path / "adapter", **settings, ensure_weight_tying=True)
    check_same(merged_alone(base, adapter, tmp_path / "out"), merged_by_peft(base, adapter))


@pytest.mark.parametrize("kind", ONLY_UNTIED)
def test_adapters_that_take_tied_embeddings_apart_are_refused(kind: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    adapter = write_adapter(base, tmp_path / "adapter", **KINDS[kind])
    refused(
        MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)),
        "one matrix, which the adapter takes",
    )


@pytest.mark.parametrize("dora", [False, True])
def test_layers_that_are_stored_transposed(dora: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    torch.manual_seed(3)
    settings = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(WORDS), "n_positions": 8}
    GPT2LMHeadModel(GPT2Config(**settings, bos_token_id=0, eos_token_id=1)).save_pretrained(base)
    targets = ["c_attn", "c_proj", "c_fc"]
    adapter = write_adapter(
        base, tmp_path / "a", r=2, target_modules=targets, fan_in_fan_out=True, use_dora=dora
    )
    ours = merged_alone(base, adapter, tmp_path / "out")
    theirs = merged_by_peft(base, adapter)
    check_same({f"transformer.{name.removeprefix('transformer.')}": ours[name] for name in ours}, theirs)


def test_a_weight_scales_its_task_vector_and_several_add_up(base: Path, other: Path, tmp_path: Path) -> None:
    first = write_adapter(base, tmp_path / "first", r=4, target_modules=ATTENTION, seed=1)
    second = write_adapter(base, tmp_path / "second", r=2, target_modules="all-linear", seed=2)
    models = [input_model(first, 0.5), input_model(second, -2.0), input_model(other, 0.25)]
    merge("task-arithmetic", base, models, tmp_path / "out")
    start, full = weights(base), weights(other)
    one, two = merged_by_peft(base, first), merged_by_peft(base, second)
    for name, ours in weights(tmp_path / "out").items():
        b = start[name].double()
        vectors = (one[name].double() - b, two[name].double() - b, full[name].double() - b)
        expected = b + 0.5 * vectors[0] - 2.0 * vectors[1] + 0.25 * vectors[2]
        torch.testing.assert_close(ours, expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "dare-linear", "karcher"])
def test_methods_see_an_adapter_as_the_model_that_it_makes(
    method: str, base: Path, other: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=4, target_modules="all-linear")
    written = tmp_path / "written"
    merged_alone(base, adapter, written)
    density = {} if method == "karcher" else {"density": 0.5}
    weight = {} if method == "karcher" else {"weight": 0.7}
    results = []
    for folder in (adapter, written):
        models = tuple(InputModel(name, each, "", weight) for name, each in (("a", folder), ("b", other)))
        request = MergeRequest(
            method, models, None if method == "karcher" else input_model(base), parameters=density
        )
        run(plan(request), tmp_path / f"out-{folder.name}")
        results.append(weights(tmp_path / f"out-{folder.name}"))
    check_same(*results)


def test_a_change_of_half_precision_weights_is_not_rounded_before_the_merge(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1, dtype=torch.bfloat16)
    adapter = write_adapter(base, tmp_path / "adapter", r=4, target_modules=ATTENTION)
    assert {tensor.dtype for tensor in merged_alone(base, adapter, tmp_path / "bf16").values()} == {
        torch.bfloat16
    }
    ours = merged_alone(base, adapter, tmp_path / "f32", dtype="float32")
    name = "model.layers.0.self_attn.q_proj.weight"
    factors = load_file(adapter / WEIGHTS)
    up, down = (factors[f"base_model.model.{name.replace('weight', f'lora_{each}.weight')}"] for each in "BA")
    expected = weights(base)[name].double() + 6 / 4 * up.double() @ down.double()
    torch.testing.assert_close(ours[name], expected.float(), **CLOSE)


def test_rows_come_out_alike_however_they_are_read(base: Path, tmp_path: Path) -> None:
    settings = {"r": 2, "target_modules": ["q_proj", "embed_tokens"], "use_dora": True}
    adapter = read_model("adapter", write_adapter(base, tmp_path / "adapter", **settings))
    for name in (INPUT, "model.layers.1.self_attn.q_proj.weight"):
        source = adapter.sources[name]
        whole = source.read(0, source.shape[0])
        parts = [source.read(row, row + 1) for row in range(source.shape[0])]
        torch.testing.assert_close(torch.cat(parts), whole, **CLOSE)


def with_new_tokens(base: Path, folder: Path) -> Path:
    """The base with two more tokens, as a model and tokenizer folder."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["spleen", "liver"])
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(WORDS) + 2, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("how", ["rows", "whole"])
def test_tokens_that_only_the_adapter_has(how: str, base: Path, tmp_path: Path) -> None:
    larger = with_new_tokens(base, tmp_path / "larger")
    more: dict[str, Any] = {"trainable_token_indices": [2, 6, 7]}
    if how == "whole":
        more = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    adapter = write_adapter(larger, tmp_path / "adapter", r=2, target_modules=ATTENTION, **more)
    expected = merged_by_peft(larger, adapter)
    AutoTokenizer.from_pretrained(larger).save_pretrained(adapter)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "somewhere/else"}))
    report = merge("task-arithmetic", base, [input_model(adapter, 1.0)], tmp_path / "out")
    assert report.rows == len(WORDS) + 2
    assert report.rows_from_models == 2
    assert read_new_tokens(tmp_path / "out") == (6, 7)
    check_same(weights(tmp_path / "out"), expected)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids("liver") == 7
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == len(WORDS) + 2


def test_an_adapter_lies_on_the_model_that_it_names(base: Path, other: Path, tmp_path: Path) -> None:
    adapter = write_adapter(other, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    check_same(merged_alone(base, adapter, tmp_path / "out"), merged_by_peft(other, adapter))


def test_without_a_base_it_lies_on_the_model_that_it_names(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    merge("linear", None, [input_model(adapter, 1.0)], tmp_path / "out")
    check_same(weights(tmp_path / "out"), merged_by_peft(base, adapter))


def changed_config(adapter: Path, **settings: Any) -> Path:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | settings))
    return adapter


def changed_tensors(adapter: Path, change: Any) -> Path:
    tensors = load_file(adapter / WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)
    return adapter


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "it is of kind IA3"),
        ({"lora_bias": True}, "it uses lora_bias"),
        ({"layer_replication": [[0, 2]]}, "it uses layer_replication"),
        ({"target_parameters": ["experts"]}, "it uses target_parameters"),
        ({"something_new": 1}, "it uses something_new"),
        ({"init_lora_weights": "pissa_niter_4"}, "it began with pissa_niter_4"),
    ],
)
def test_kinds_that_cannot_be_merged_are_refused(
    settings: dict[str, Any], message: str, base: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    changed_config(adapter, **settings)
    text = refused(MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), message)
    assert text.startswith("adapter: ")


def test_trained_tokens_alone_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    TrainableTokensConfig(token_indices=[1]).save_pretrained(adapter)
    refused(
        MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), "of kind TRAINABLE_TOKENS"
    )


def test_another_models_adapter_is_found_out(base: Path, tmp_path: Path) -> None:
    wide = write_model(tmp_path / "wide", 3, hidden_size=32, num_hidden_layers=3)
    adapter = write_adapter(wide, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    changed_config(adapter, base_model_name_or_path="hub/wide")
    text = refused(
        MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)),
        "the adapter is not one of base",
    )
    assert "q_proj.weight is [16, 16] there, [32, 32] in the adapter" in text
    assert "more" in text


def test_without_its_model_or_a_base_it_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    changed_config(adapter, base_model_name_or_path="hub/model")
    refused(
        MergeRequest("linear", (input_model(adapter, 1.0),)),
        "an adapter of hub/model, which is no folder here",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(next(key for key in tensors if "lora_B" in key)), "there is only A"),
        (lambda tensors: tensors.update({"base_model.model.odd": torch.ones(2)}), "it has no odd"),
        (
            lambda tensors: tensors.update({"base_model.model.model.norm.lora_A.weight": torch.ones(2, 2)}),
            "there is only A",
        ),
    ],
)
def test_damaged_adapters_are_refused(change: Any, message: str, base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    changed_tensors(adapter, change)
    refused(MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), message)


def test_rows_without_their_numbers_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(
        base, tmp_path / "a", r=2, target_modules=ATTENTION, trainable_token_indices=[1, 2]
    )
    for indices, message in (([1], "2 trained rows, and its configuration 1"), ([1, 9], "rows beyond them")):
        changed_config(adapter, trainable_token_indices=indices)
        refused(MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), message)


def test_missing_and_pickled_weights_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    (adapter / WEIGHTS).rename(adapter / "elsewhere")
    refused(
        MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), "lacks the adapter's weights"
    )
    (adapter / "adapter_model.bin").write_bytes(b"x")
    refused(MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), "pickle")
    (adapter / CONFIG).write_text("{")
    refused(MergeRequest("linear", (input_model(adapter, 1.0),), input_model(base)), "not valid JSON")


def test_infinite_factors_stop_the_merge(base: Path, tmp_path: Path) -> None:
    from cpt.errors import DataError

    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    changed_tensors(adapter, lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    with pytest.raises(DataError, match="NaN"):
        merged_alone(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_merges_base_is_read_once(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", r=2, target_modules=ATTENTION)
    read = read_candidate("base", base)
    assert (
        read_adapter("adapter", adapter, read).sources["model.norm.weight"]
        is read.sources["model.norm.weight"]
    )
    assert OUTPUT not in read.sources
