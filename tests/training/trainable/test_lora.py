"""Adapters: nothing at first, exact after any kill, and the same model whether merged or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from tiny_trains import (
    NEW,
    OLD,
    Said,
    backward,
    changed,
    llama,
    losses,
    prepared,
    run,
    tiny,
    trainable,
    weights,
)
from transformers import GPT2Config

from cpt.errors import RecipeError
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.optimizers import AdamW
from cpt.training.optimizers.groups import group_weights
from cpt.training.trainable import Setup

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SETUP = Setup(steps=20, new_tokens=NEW, seed=5)
VARIANTS = ["lora", "rslora", "dora", "adalora"]
TIED = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
EACH = pytest.mark.parametrize(
    ("variant", "tied", "embeddings"),
    [
        ("lora", True, "frozen"),
        ("lora", False, "all"),
        ("rslora", True, "new-tokens"),
        ("rslora", True, "all"),
        ("dora", True, "all"),
        ("dora", False, "new-tokens"),
        ("adalora", True, "new-tokens"),
        ("adalora", False, "all"),
        ("adalora", True, "all"),
    ],
)
VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def lora(**settings: Any) -> Any:
    return trainable(**{"kind": "lora", "rank": 2, "embeddings": "frozen"} | settings)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 35)[None]).logits


@EACH
def test_at_first_an_adapter_changes_nothing(variant: str, tied: bool, embeddings: str) -> None:
    model = tiny(tied)
    before = losses(model)
    lora(variant=variant, embeddings=embeddings).apply(model, SETUP)
    torch.testing.assert_close(losses(model), before, rtol=0, atol=1e-6)


@EACH
def test_saved_and_merged_adapters_are_one_model(
    tmp_path: Path, variant: str, tied: bool, embeddings: str
) -> None:
    start = weights(tiny(tied))
    model = run(tmp_path, lora(variant=variant, embeddings=embeddings), tiny(tied))
    model.set_attn_implementation("eager")
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    matrices = {EMBEDDING} if tied else {EMBEDDING, HEAD}
    moved = changed(start, weights(model))
    assert moved - matrices == {name for name in start if "_proj" in name}
    assert moved & matrices == (set() if embeddings == "frozen" else matrices)
    for name in moved & matrices:
        old_rows_moved = (start[name] != weights(model)[name])[OLD].any()
        assert bool(old_rows_moved) == (embeddings == "all")
    adapted = PeftModel.from_pretrained(llama(tied), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(model), logits(adapted), rtol=0, atol=1e-5)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@VARIANT
def test_every_adapter_moves_the_model_as_its_own_logits_say(tmp_path: Path, variant: str) -> None:
    model = tiny()
    trained = prepared(model, lora(variant=variant), steps=20)
    optimizer = AdamW().build(trained.groups(model))
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        backward(model, trained, step)
        optimizer.step()
        trained.after_step()
        optimizer.zero_grad()
    adapted = losses(model)
    assert (adapted - losses(tiny())).abs().max() > 1e-4
    trained.restore_model(model, tmp_path / "adapter")
    torch.testing.assert_close(losses(model), adapted, rtol=0, atol=1e-5)
    assert {name for name, _ in model.named_parameters()} == weights(tiny()).keys()


@pytest.mark.parametrize(
    ("variant", "tied", "dtype"),
    [
        ("lora", True, torch.float32),
        ("rslora", False, torch.bfloat16),
        ("dora", True, torch.bfloat16),
        ("adalora", False, torch.float32),
        ("adalora", True, torch.bfloat16),
    ],
)
def test_killed_and_continued_equals_uninterrupted(
    tmp_path: Path, variant: str, tied: bool, dtype: torch.dtype
) -> None:
    chosen = lora(variant=variant, embeddings="new-tokens")
    settings: dict[str, Any] = {"dtype": dtype, "steps": 8, "checkpoint": Checkpoints(every=3)}
    whole = weights(run(tmp_path / "whole", chosen, tiny(tied), **settings))
    for step in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", chosen, tiny(tied), Said(die_at=step), **settings)
    assert not changed(whole, weights(run(tmp_path / "killed", chosen, tiny(tied), **settings)))
    files = [tmp_path / name / "adapter/adapter_model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_frozen_comes_back_to_the_bit_after_training_in_bfloat16(tmp_path: Path) -> None:
    start = weights(tiny())
    after = weights(run(tmp_path, lora(targets=["q_proj"]), dtype=torch.bfloat16))
    assert changed(start, after) == {name for name in start if "q_proj" in name}


def factor(settings: dict[str, Any]) -> float:
    """The scale of an adapter, from what it adds when all its factors are one."""
    model = tiny()
    lora(**{"rank": 4, "targets": ["q_proj"]} | settings).apply(model, SETUP)
    layer = model.model.layers[0].self_attn.q_proj
    for name, parameter in layer.named_parameters():
        if ".lora_" in f".{name}":
            parameter.data.fill_(1.0)
    added = layer.get_delta_weight("default")
    return float(added[0, 0]) / (6 if settings.get("variant") == "adalora" else 4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"variant": "lora", "alpha": 8}, 8 / 4),
        ({"variant": "rslora", "alpha": 8}, 8 / 2),
        ({"variant": "dora", "alpha": 8}, 8 / 4),
        ({"variant": "adalora", "alpha": 8}, 8 / 6),
        *(({"variant": variant}, 1.0) for variant in VARIANTS),
    ],
)
def test_scale(settings: dict[str, Any], expected: float) -> None:
    assert factor(settings) == pytest.approx(expected, rel=1e-4)


def test_rank_targets_and_seed() -> None:
    def shapes(**settings: Any) -> dict[str, tuple[int, ...]]:
        model = tiny()
        trained = prepared(model, lora(**settings))
        return {name: tuple(weight.shape) for name, weight in trained.weights.items()}

    assert {min(shape) for shape in shapes(rank=3).values()} == {3}
    assert len(shapes()) == 2 * 2 * 7
    assert len(shapes(targets=["q_proj", "mlp.up_proj"])) == 2 * 2 * 2
    assert {name.split(".lora_")[0] for name in shapes(targets=["layers.1.mlp.down_proj"])} == {
        "model.layers.1.mlp.down_proj"
    }

    def first(seed: int) -> torch.Tensor:
        model = tiny()
        before = torch.random.get_rng_state()
        lora().apply(model, Setup(20, NEW, seed))
        assert torch.equal(torch.random.get_rng_state(), before)
        return model.model.layers[0].self_attn.q_proj.lora_A["default"].weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@TIED
def test_groups_and_their_rates(tied: bool) -> None:
    rates = {"adapters": 2.0, "embeddings": 0.1}
    model = tiny(tied)
    trained = prepared(model, lora(variant="dora", embeddings="all", rates=rates))
    groups = {group.name: group for group in trained.groups(model)}
    assert {name: (group.kind, group.rate) for name, group in groups.items()} == {
        "adapters": ("adapter", 2.0),
        "adapter magnitudes": ("vector", 2.0),
        "embeddings": ("embedding", 0.1),
    }
    assert len(groups["embeddings"].weights) == (1 if tied else 2)
    model = tiny(tied)
    trained = prepared(model, lora(embeddings="new-tokens", rates={"new_tokens": 5.0}))
    groups = {group.name: group for group in trained.groups(model)}
    assert groups["new tokens"].rate == 5.0
    assert {tuple(w.shape) for w in groups["new tokens"].weights.values()} == {(len(NEW), 16)}


def refused(model: Any = None, setup: Setup = SETUP, **settings: Any) -> list[tuple[str | None, str]]:
    with pytest.raises(RecipeError) as raised:
        lora(**settings).apply(model if model is not None else tiny(), setup)
    return [(problem.key, problem.message) for problem in raised.value.problems]


def test_combinations_that_make_no_sense() -> None:
    assert refused(targets=["q_proj", "wq", "lm_head"]) == [
        ("targets", "no matrix of the layers is called wq"),
        ("targets", "no matrix of the layers is called lm_head"),
    ]
    assert refused(setup=Setup(20), embeddings="new-tokens")[0][0] == "embeddings"
    assert refused(rates={"embeddings": 0.1})[0][0] == "rates.embeddings"
    assert refused(rates={"new_tokens": 0.1})[0][0] == "rates.new_tokens"
    (problem,) = refused(embeddings="all", rates={"new_tokens": 2.0})
    assert problem[0] == "rates.new_tokens"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 0.1}, "adapters have no dropout"),
        ({"variant": "dora", "allocation": {}}, "allocation goes with variant: adalora, not with dora"),
        ({"variant": "adalora", "rank": 4, "allocation": {"initial_rank": 4}}, "4 is not above rank 4"),
        ({"variant": "adalora", "allocation": {"initial_rank": 389}}, "389 is no number of bfloat16.*390 is"),
        ({"rates": {"matrices": 0.1}}, "Extra inputs"),
        ({"targets": []}, "at least 1 item"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        lora(**settings)


def test_a_tied_model_that_peft_would_take_apart_is_refused() -> None:
    def model() -> Any:
        return tiny(config=GPT2Config, n_embd=16, n_head=2, bos_token_id=0, eos_token_id=1)

    (problem,) = refused(model(), embeddings="all")
    assert problem[0] == "embeddings"
    assert problem[1].startswith("the input and the output embedding of GPT2LMHeadModel are one matrix")
    lora(embeddings="new-tokens").apply(model(), SETUP)


def test_other_model_without_adapters_groups_as_before() -> None:
    model = tiny()
    names = [group.name for group in group_weights(model, dict(model.named_parameters()))]
    assert names == ["matrices", "embeddings", "norms and biases"]
