"""Block expansion: a deeper model that computes what it did, whose new layers train."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trains import NEW, Said, changed, losses, run, tiny, trainable, weights
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    SmolLM3Config,
)

from cpt.errors import RecipeError
from cpt.training.trainable import Setup

SETUP = Setup(steps=6, new_tokens=NEW, seed=5)


def logits(model: Any) -> torch.Tensor:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (LlamaConfig, {}),
        (Qwen2Config, {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        (
            SmolLM3Config,
            {"no_rope_layer_interval": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1},
        ),
        (GPTNeoXConfig, {}),
        (GPT2Config, {"n_embd": 16, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_at_first_it_computes_the_same_and_so_it_does_when_loaded(
    tmp_path: Path, config: type, more: dict[str, Any]
) -> None:
    model = tiny(layers=4, config=config, **more)
    expected = logits(tiny(layers=4, config=config, **more))
    trainable(kind="expansion", every=2, embeddings="frozen").apply(model, SETUP)
    assert torch.equal(logits(model), expected)
    assert model.config.num_hidden_layers == 6
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.config.num_hidden_layers == 6
    torch.testing.assert_close(logits(loaded), expected)


def test_layers_know_their_place() -> None:
    model = tiny(layers=5)
    trainable(kind="expansion", every=2, embeddings="frozen").apply(model, SETUP)
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == list(range(7))
    ids = torch.arange(12)[None]
    model.set_attn_implementation("eager")
    expected = model(ids).logits[0, -1]
    cached = model(ids[:, :-1], use_cache=True).past_key_values
    assert len(cached.layers) == 7
    torch.testing.assert_close(model(ids[:, -1:], past_key_values=cached).logits[0, -1], expected)


@pytest.mark.parametrize(("every", "added"), [(1, [1, 3, 5, 7]), (2, [2, 5]), (3, [3]), (4, [4])])
def test_a_copy_stands_after_every_few_layers(every: int, added: list[int]) -> None:
    model, original = tiny(layers=4), weights(tiny(layers=4))
    trainable(kind="expansion", every=every, embeddings="frozen").apply(model, SETUP)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {int(name.split(".")[2]) for name in names} == set(added)
    for place in added:
        copied = model.model.layers[place]
        before = model.model.layers[place - 1]
        assert torch.equal(copied.self_attn.q_proj.weight, before.self_attn.q_proj.weight)
        assert not copied.self_attn.o_proj.weight.any()
        assert not copied.mlp.down_proj.weight.any()
    kept = [layer for place, layer in enumerate(model.model.layers) if place not in added]
    for number, layer in enumerate(kept):
        assert torch.equal(layer.mlp.up_proj.weight, original[f"model.layers.{number}.mlp.up_proj.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_only_what_was_added_moves(tmp_path: Path, dtype: torch.dtype) -> None:
    start = tiny(layers=2)
    trainable(kind="expansion", every=2, embeddings="frozen").apply(start, SETUP)
    model = run(
        tmp_path, trainable(kind="expansion", every=2, embeddings="frozen"), tiny(layers=2), dtype=dtype
    )
    moved = changed(weights(start), weights(model))
    assert moved == {name for name in weights(model) if name.startswith("model.layers.2.")}


def test_embeddings_train_on_request(tmp_path: Path) -> None:
    chosen = trainable(kind="expansion", every=2, embeddings="new-tokens", rates={"new_tokens": 2.0})
    before = tiny().get_input_embeddings().weight
    after = run(tmp_path, chosen).get_input_embeddings().weight
    assert tuple((before != after).any(1).nonzero().flatten().tolist()) == NEW


@pytest.mark.parametrize("kills", [[1], [3, 5]])
def test_kill_and_resume(tmp_path: Path, kills: list[int]) -> None:
    chosen = trainable(kind="expansion", every=1, embeddings="frozen")
    whole = run(tmp_path / "whole", chosen)
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", chosen, said=Said(die_at=step))
    again = run(tmp_path / "killed", chosen)
    assert not changed(weights(whole), weights(again))
    assert torch.equal(losses(whole), losses(again))


def test_more_layers_than_there_are() -> None:
    with pytest.raises(RecipeError, match="the model has only 2 layers") as raised:
        trainable(kind="expansion", every=3, embeddings="frozen").apply(tiny(), SETUP)
    assert raised.value.problems[0].key == "every"


def test_a_model_of_another_build_is_refused() -> None:
    model = tiny(config=MixtralConfig, num_local_experts=2)
    with pytest.raises(RecipeError, match="MixtralForCausalLM cannot be expanded: the last matrices"):
        trainable(kind="expansion", every=1, embeddings="frozen").apply(model, SETUP)
    uneven = tiny()
    uneven.config.dense_layers = [1]
    with pytest.raises(RecipeError, match="its configuration names layers by number, under dense_layers"):
        trainable(kind="expansion", every=1, embeddings="frozen").apply(uneven, SETUP)


def test_an_expansion_that_changes_the_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.training.trainable.block_expansion._zero_outputs", lambda model, layer: None)
    with pytest.raises(RecipeError, match="layers that add nothing change what it computes"):
        trainable(kind="expansion", every=1, embeddings="frozen").apply(tiny(), SETUP)
