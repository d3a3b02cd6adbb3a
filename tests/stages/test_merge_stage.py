"""The merge stage: which models go in, and what comes out."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runs import Heard, model_artifact, run_stage
from tiny import add_merges
from transformers import AutoModelForCausalLM

from cpt.stages.base import UpstreamArtifact, WiringError
from cpt.stages.merge.stage import STAGE

MODEL, NONE = frozenset({"model"}), frozenset({"corpus"})
EARLIER = (
    UpstreamArtifact("base", MODEL),
    UpstreamArtifact("corpus", NONE),
    UpstreamArtifact("one", MODEL),
    UpstreamArtifact("two", MODEL),
)


def config(models: list[dict], **more):
    return STAGE.Config.model_validate({"models": models} | more)


def test_roles_are_the_base_and_the_models_in_their_order() -> None:
    models = [{"from": "two", "weight": 0.5}, {"from": "one", "weight": 1}]
    assert STAGE.wire(config(models), EARLIER) == {"base": "base", "model:0": "two", "model:1": "one"}
    assert STAGE.wire(config(models[:1], base="one"), EARLIER) == {"base": "one", "model:0": "two"}


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        ({"models": [{"from": "corpus", "weight": 1}]}, "models.0.from", "makes no model"),
        ({"models": [{"from": "three", "weight": 1}]}, "models.0.from", "no earlier stage called `three`"),
        ({"models": [{"from": "one", "weight": 1}], "base": "corpus"}, "base", "makes no model"),
    ],
)
def test_what_makes_no_model_cannot_go_in(settings: dict, key: str, message: str) -> None:
    with pytest.raises(WiringError, match=message) as raised:
        STAGE.wire(STAGE.Config.model_validate(settings), EARLIER)
    assert raised.value.problem.key == key
    assert "base, one, two" in str(raised.value.problem.hint)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": []}, "at least one model"),
        ({"models": [{"from": "one", "weight": float("nan")}]}, "finite"),
        ({"models": [{"from": "one", "weight": float("inf")}]}, "finite"),
        ({"models": [{"from": "one", "weight": 1, "parameters": {"weight": 1}}]}, "as `weight`"),
        ({"models": [{"from": "one", "weight": 1}], "dtype": "int8"}, "float16"),
        ({"models": [{"from": "one", "weight": 1}], "compute_dtype": "int8"}, "stored"),
        ({"models": [{"from": "base", "weight": 1}]}, "base goes into the merge twice"),
        (
            {"models": [{"from": "one", "weight": 1}, {"from": "one", "weight": 2}]},
            "one goes into the merge twice",
        ),
        ({"models": [{"from": "one", "weight": 1}], "from": "one"}, "takes its models from"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config.model_validate(settings)


def test_the_merge_is_a_model_folder(tiny_model: Path, another_model, tmp_path: Path) -> None:
    inputs = {
        "base": model_artifact("base", tiny_model, tmp_path),
        "model:0": model_artifact("one", another_model("m1", seed=1), tmp_path),
        "model:1": model_artifact("two", another_model("m2", seed=2), tmp_path),
    }
    models = [{"from": "one", "weight": 0.75}, {"from": "two", "weight": -0.5}]
    metrics = run_stage(STAGE, {"models": models}, inputs, tmp_path / "run")
    output = tmp_path / "run/output/model"
    base, one, two = (load_file(inputs[role].path("model") / "model.safetensors") for role in sorted(inputs))
    for name, tensor in load_file(output / "model.safetensors").items():
        b, x, y = (each[name].double() for each in (base, one, two))
        assert torch.equal(tensor, (b + (-0.5 * (y - b) + 0.75 * (x - b))).float())
    assert metrics["weights"] == {"one": 0.75, "two": -0.5}
    assert metrics["rows"] == len(base["model.embed_tokens.weight"])
    assert "| one | 0.75 | `one` |" in (output / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(output).generation_config.eos_token_id == 1
    assert not list((tmp_path / "run/work").iterdir())


@pytest.fixture
def inputs(tiny_model: Path, another_model, tmp_path: Path) -> dict:
    return {
        "base": model_artifact("base", tiny_model, tmp_path),
        "model:0": model_artifact("one", another_model("m1", seed=1), tmp_path),
        "model:1": model_artifact("two", another_model("m2", seed=2), tmp_path),
    }


BOTH = [{"from": "one", "weight": 0.75}, {"from": "two", "weight": -0.5}]


def merged(settings: dict, inputs: dict, folder: Path) -> dict[str, torch.Tensor]:
    run_stage(STAGE, settings, inputs, folder)
    return load_file(folder / "output/model/model.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "ties"},
        {"parameters": {"lambda": 0.5}},
        {"parameters": {"normalize": True}},
        {"models": [{"from": "one", "weight": [0.0, 0.75]}, BOTH[1]]},
        {"method": "linear", "base": None},
        {"dtype": "bfloat16"},
        {"compute_dtype": "bfloat16"},
    ],
)
def test_settings_change_the_result(change: dict, inputs: dict, tmp_path: Path) -> None:
    used = {role: inputs[role] for role in inputs if role != "base" or change.get("base", "base")}
    plain = merged({"models": BOTH}, inputs, tmp_path / "plain")
    other = merged({"models": BOTH} | change, used, tmp_path / "other")
    assert not all(torch.equal(plain[name].float(), other[name].float()) for name in plain)


def test_a_models_own_parameters_change_the_result(inputs: dict, tmp_path: Path) -> None:
    dense = merged({"method": "ties", "models": BOTH}, inputs, tmp_path / "dense")
    models = [BOTH[0] | {"parameters": {"density": 0.3}}, BOTH[1]]
    sparse = merged({"method": "ties", "models": models}, inputs, tmp_path / "sparse")
    assert not torch.equal(dense["model.norm.weight"], sparse["model.norm.weight"]) or any(
        not torch.equal(dense[name], sparse[name]) for name in dense
    )


def test_tokenizer_and_settings_are_those_of_the_stage_that_is_named(inputs: dict, tmp_path: Path) -> None:
    (inputs["model:1"].path("model") / "chat_template.jinja").write_text("two {{ messages }}")
    for name, text in (("two", "two {{ messages }}"), ("base", None)):
        for key in ("tokenizer", "settings"):
            folder = tmp_path / f"{name}-{key}"
            metrics = run_stage(STAGE, {"models": BOTH, "tokenizer": "base", key: name}, inputs, folder)
            template = folder / "output/model/chat_template.jinja"
            assert (template.read_text() if template.exists() else None) == text
            assert metrics["settings_of"] == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "soup"}, "there is no merge method 'soup'"),
        ({"method": "slerp"}, "t is not given"),
        ({"models": [{"from": "one"}]}, "weight of one is not given"),
        ({"parameters": {"density": 0.5}}, "density is no parameter of task-arithmetic"),
        ({"method": "ties", "parameters": {"density": 2}}, "density is 2"),
        ({"base": None}, "task-arithmetic needs a base model"),
        ({"tokenizer": "three"}, "tokenizer: there is no model called 'three'"),
        ({"settings": "three"}, "settings: there is no model called 'three'"),
        ({"chat_template": "chatmll"}, "there is no chat template 'chatmll'"),
    ],
)
def test_what_the_method_does_not_take_is_found_before_any_stage_runs(settings: dict, message: str) -> None:
    found = STAGE.check(config(**{"models": BOTH} | settings), {})
    assert any(message in problem.message for problem in found)
    assert STAGE.check(config(BOTH), {}) == []


def test_models_that_are_there_are_checked_against_each_other(inputs: dict, tmp_path: Path) -> None:
    assert STAGE.check(config(BOTH), inputs) == []
    (inputs["model:1"].path("model") / "model.safetensors").unlink()
    (problem,) = STAGE.check(config(BOTH), inputs)
    assert "two: " in problem.message
    assert "lacks the weights" in problem.message


def test_the_task_vectors_are_measured(inputs: dict, tmp_path: Path) -> None:
    """Each model's difference from the base; without a base there are none."""
    analysis = run_stage(STAGE, {"models": BOTH}, inputs, tmp_path / "run")["analysis"]
    base, one, two = (load_file(inputs[role].path("model") / "model.safetensors") for role in sorted(inputs))
    a, b = (torch.cat([(each[name] - base[name]).double().flatten() for name in base]) for each in (one, two))
    assert [vector["name"] for vector in analysis["vectors"]] == ["one", "two"]
    assert analysis["vectors"][0]["norm"] == pytest.approx(float(a.norm()), rel=1e-5)
    cosine = float(a @ b / a.norm() / b.norm())
    assert analysis["pairs"][0]["cosine"] == pytest.approx(cosine, rel=1e-5)
    del inputs["base"]
    settings = {"models": BOTH, "base": None, "method": "linear"}
    assert "analysis" not in run_stage(STAGE, settings, inputs, tmp_path / "other")


def test_tokens_of_a_union_that_its_tokenizer_never_makes_are_told(another_model, tmp_path: Path) -> None:
    one = add_merges(another_model("m1", seed=1), ("q", "z"))
    two = add_merges(another_model("m2", seed=2), ("z", "x"), ("q", "zx"))
    models = {"one": one, "two": two}
    inputs = {
        f"model:{place}": model_artifact(name, models[name], tmp_path) for place, name in enumerate(models)
    }
    heard = Heard()
    settings = {"method": "linear", "base": None, "tokenizer": "union", "models": BOTH}
    metrics = run_stage(STAGE, settings, inputs, tmp_path / "run", heard)
    assert metrics["out_of_reach"] == 1
    assert any("1 of 2 tokens that the union adds is out of reach" in message for message in heard.messages)
