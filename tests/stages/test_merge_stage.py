"""The merge stage: which models go in, and what comes out."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runs import model_artifact, run_stage
from transformers import AutoModelForCausalLM

from cpt.stages.base import Earlier, WiringError
from cpt.stages.merge import STAGE

MODEL, NONE = frozenset({"model"}), frozenset({"corpus"})
EARLIER = (Earlier("base", MODEL), Earlier("corpus", NONE), Earlier("one", MODEL), Earlier("two", MODEL))


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
        ({"models": [{"from": "one"}]}, "weight"),
        ({"models": [{"from": "base", "weight": 1}]}, "base goes into the merge twice"),
        (
            {"models": [{"from": "one", "weight": 1}, {"from": "one", "weight": 2}]},
            "one goes into the merge twice",
        ),
        ({"models": [{"from": "one", "weight": 1}], "from": "one"}, "takes its models from"),
        ({"models": [{"from": "one", "weight": 1}], "method": "soup"}, "task-arithmetic"),
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
