"""What of a model the pretrain stage trains, and what it leaves behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runs import Heard, artifact, make_corpus, model_artifact, run_stage
from transformers import AutoModelForCausalLM

from cpt.models.token_ids import read_new_tokens
from cpt.stages.base import Artifact
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY

PLAIN = {"tokens": 600, "batch_sequences": 4, "checkpoint": {"every": 2}, "monitor": {"every": 2}}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("inputs")
    model = model_artifact("base", tiny_model, folder)
    return {"model": model, "corpus": make_corpus(model, folder / "corpus")}


def pretrain(config: Mapping[str, Any], inputs: Mapping[str, Artifact], folder: Path, **more: Any) -> Path:
    run_stage(PRETRAIN, PLAIN | config, inputs, folder, **more)
    return folder / "output"


def problem_keys(config: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> list[str | None]:
    checked = PRETRAIN.check(PRETRAIN.Config.model_validate(PLAIN | config), inputs)
    return [problem.key for problem in checked]


@pytest.fixture(scope="module")
def extended(inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Model and corpus with twenty new tokens."""
    folder = tmp_path_factory.mktemp("extended")
    run_stage(VOCABULARY, {"extend": {"tokens": 20}}, inputs, folder)
    return dict.fromkeys(("model", "corpus"), artifact("vocabulary", folder / "output", "model", "corpus"))


def embedding(folder: Path) -> torch.Tensor:
    weight: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    return weight.detach()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_new_tokens_of_the_vocabulary_stage_train_first(extended, tmp_path: Path, precision: str) -> None:
    trainable = {"embeddings_first": 0.99}
    output = pretrain({"trainable": trainable, "precision": precision}, extended, tmp_path)
    before, after = embedding(extended["model"].path("model")), embedding(output / "model")
    moved = (before != after).any(1).nonzero().flatten().tolist()
    assert tuple(moved) == read_new_tokens(extended["model"].path("model")) == tuple(range(300, 320))
    assert read_new_tokens(output / "model") == tuple(moved)


def test_an_adapter_is_saved_beside_the_model_that_holds_it(inputs, tmp_path: Path, tiny_model: Path) -> None:
    from peft import PeftModel

    trainable = {"kind": "lora", "rank": 4, "embeddings": "all", "rates": {"embeddings": 0.1}}
    output = pretrain({"trainable": trainable, "schedule": {"peak": 1e-2}}, inputs, tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(output / "model").eval()
    assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(20, 60)[None]
    plain = base.eval()(ids).logits
    adapted = PeftModel.from_pretrained(base, output / "training/adapter").eval()
    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=0, atol=1e-5)
    assert (merged(ids).logits - plain).abs().max() > 1e-3


def test_an_expanded_model_is_a_plain_one(inputs, tmp_path: Path, tiny_model: Path) -> None:
    output = pretrain({"trainable": {"kind": "expansion", "every": 1}}, inputs, tmp_path)
    config = json.loads((output / "model/config.json").read_text())
    assert config["num_hidden_layers"] == 4
    model, loading = AutoModelForCausalLM.from_pretrained(output / "model", output_loading_info=True)
    assert not any(loading.values())
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert torch.equal(model.model.layers[2].mlp.up_proj.weight, base.model.layers[1].mlp.up_proj.weight)
    assert model.model.layers[3].mlp.down_proj.weight.any()


def test_what_is_frozen_is_saved_as_it_was(inputs, tmp_path: Path, tiny_model: Path) -> None:
    trainable = {"kind": "layers", "layers": "-1"}
    output = pretrain({"trainable": trainable, "precision": "bf16"}, inputs, tmp_path)
    before, after = (
        load_file(tiny_model / "model.safetensors"),
        load_file(output / "model" / "model.safetensors"),
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if ".layers.1." in name}


def test_milestones_need_weights_that_are_a_model(extended) -> None:
    for trainable, expected in [
        ({"kind": "lora", "rank": 4}, ["checkpoint.keep_every"]),
        ({"kind": "layers", "layers": "0", "embeddings": "new-tokens"}, []),
        ({"embeddings_first": 0.5}, []),
        ({}, []),
    ]:
        assert problem_keys({"trainable": trainable, "checkpoint": {"keep_every": 2}}, extended) == expected


@pytest.mark.parametrize("kind", ["galore", "apollo", "frugal", "muon"])
def test_optimizers_of_matrices_need_matrices_that_train(inputs, kind: str) -> None:
    for trainable, expected in [
        ({"kind": "lora", "rank": 4}, ["optimizer.kind"]),
        ({"kind": "layers", "layers": "none", "embeddings": "all"}, ["optimizer.kind"]),
        ({"kind": "layers", "layers": "0"}, []),
        ({}, []),
    ]:
        assert problem_keys({"trainable": trainable, "optimizer": {"kind": kind}}, inputs) == expected


def test_what_trains_must_go_with_the_model(inputs) -> None:
    def problems(trainable: dict[str, Any]) -> list[tuple[str | None, str]]:
        config = PRETRAIN.Config.model_validate(PLAIN | {"trainable": trainable})
        return [(problem.key, problem.message) for problem in PRETRAIN.check(config, inputs)]

    assert problems({"kind": "layers", "layers": "7"}) == [
        ("trainable.layers", "7 is not within the model's 2 layers, 0 to 1")
    ]
    assert problems({"embeddings_first": 0.5}) == [
        ("trainable.embeddings_first", "the model has no new tokens: no vocabulary stage has brought any")
    ]
    assert problems({"kind": "lora", "targets": ["wq"]})[0][0] == "trainable.targets"
    assert problems({"kind": "lora", "variant": "dora", "embeddings": "all"}) == []
    assert problems({"kind": "expansion", "every": 2}) == []
    assert problems({}) == []


@pytest.mark.parametrize("trainable", [{"embeddings_first": 0.5}, {"kind": "layers", "layers": "0"}], ids=str)
def test_milestones_hold_the_rows_of_new_tokens_as_they_were(
    extended, tmp_path: Path, trainable: Any
) -> None:
    """A milestone is what a run of as many steps ends with, rows that train apart included."""
    level = {"schedule": {"kind": "constant", "warmup": 0}, "precision": "fp32", "trainable": trainable}
    if "embeddings_first" in trainable:
        level["trainable"] = {"rates": {"new_tokens": 3}}
    long = pretrain(level | {"tokens": 1100, "checkpoint": {"keep_every": 2}}, extended, tmp_path / "long")
    kept = json.loads((long / "training/checkpoints.json").read_text())
    short = pretrain(level | {"tokens": 300}, extended, tmp_path / "short")
    assert json.loads((short / "training/summary.json").read_text())["steps"] == kept[0]["step"] == 2
    expected = load_file(short / "model/model.safetensors")
    found = load_file(long / kept[0]["folder"] / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    "trainable",
    [{"kind": "lora", "rank": 4}, {"kind": "layers", "layers": "0"}, {"kind": "expansion", "every": 1}],
    ids=lambda trainable: trainable["kind"],
)
def test_new_tokens_train_unless_they_are_said_to_be_frozen(extended, tmp_path: Path, trainable: Any) -> None:
    before = embedding(extended["model"].path("model"))
    after = embedding(pretrain({"trainable": trainable}, extended, tmp_path / "a") / "model")
    assert (before != after).any(1).nonzero().flatten().tolist() == list(range(300, 320))
    frozen = pretrain({"trainable": trainable | {"embeddings": "frozen"}}, extended, tmp_path / "b")
    assert torch.equal(embedding(frozen / "model"), before)


def test_that_an_adapter_leaves_no_model_before_the_anneal_is_said(inputs, tmp_path: Path) -> None:
    heard = Heard()
    config = {"trainable": {"kind": "lora", "rank": 4}, "schedule": {"kind": "wsd", "decay_share": 0.5}}
    output = pretrain(config, inputs, tmp_path, progress=heard)
    assert any("before the anneal is not kept" in message for message in heard.messages)
    assert [each["kind"] for each in json.loads((output / "training/checkpoints.json").read_text())] == [
        "last"
    ]


def test_a_repeatable_run_uses_deterministic_algorithms_alone(inputs, tmp_path: Path, monkeypatch) -> None:
    seen = []

    def seeing(*_: Any) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())
        raise KeyboardInterrupt

    for first in ("cpt.training.loop.train", "cpt.stages.pretrain.samples.to_gpu"):  # then samples and probes
        monkeypatch.setattr(first, seeing)
        for name, config in {"no": {}, "yes": {"deterministic": True}}.items():
            with pytest.raises(KeyboardInterrupt):
                pretrain(config, inputs, tmp_path / first / name)
    assert seen == [False, True] * 2
    assert not torch.are_deterministic_algorithms_enabled()
