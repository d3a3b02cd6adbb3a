"""Models of a merge that no stage made: an instruct sibling, or an adapter, by reference."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runs import model_artifact, run_stage
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.errors import DataError, RecipeError
from cpt.progress import NullProgress
from cpt.recipe.load import load
from cpt.recipe.runner import run
from cpt.stages.base import Context, UpstreamArtifact
from cpt.stages.merge.stage import STAGE

EARLIER = (UpstreamArtifact("base", frozenset({"model"})), UpstreamArtifact("one", frozenset({"model"})))


def config(*models: dict[str, Any], **more: Any) -> Any:
    return STAGE.Config.model_validate({"models": models} | more)


def test_a_reference_has_no_role_and_is_named_by_its_end() -> None:
    made = config({"model": "org/it@main", "weight": 0.3}, {"from": "one", "weight": 0.8})
    assert STAGE.wire(made, EARLIER) == {"base": "base", "model:1": "one"}
    assert (made.base_name, made.model_names) == ("base", ("it", "one"))
    assert STAGE.references(made) == ["org/it@main"]
    named = config({"model": "org/it", "name": "chat"}, base={"model": "org/base"})
    assert (named.base_name, named.model_names) == ("base", ("chat",))
    assert STAGE.references(named) == ["org/base", "org/it"]
    assert STAGE.wire(named, EARLIER) == {}


@pytest.mark.parametrize(
    ("models", "more", "message"),
    [
        ([{"weight": 1}], {}, "`from: STAGE` or `model: REFERENCE`"),
        ([{"from": "one", "model": "org/it"}], {}, "`from: STAGE` or `model: REFERENCE`"),
        ([{"from": "one", "name": "x"}], {}, "has the stage's name"),
        ([{"model": "org/it", "name": "union"}], {}, "a model cannot be called union"),
        ([{"model": "a/b", "name": "one"}, {"from": "one"}], {}, "two models are called one"),
        ([{"model": "one", "name": "x"}, {"from": "one"}], {}, "write the folder as ./one"),
        ([{"from": "one"}], {"shard_size": "five"}, "is no size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(models: list[Any], more: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(*models, **more)


@pytest.fixture
def inputs(tiny_model: Path, another_model, tmp_path: Path) -> dict[str, Any]:
    return {
        "base": model_artifact("base", tiny_model, tmp_path),
        "model:0": model_artifact("one", another_model("m1", seed=1), tmp_path),
    }


def test_a_sibling_goes_into_the_merge(inputs: dict[str, Any], another_model, tmp_path: Path) -> None:
    sibling = another_model("sibling", seed=2)
    (sibling / "chat_template.jinja").write_text("{{ messages }}")
    settings = {
        "models": [{"from": "one", "weight": 0.8}, {"model": str(sibling), "weight": 0.3}],
        "settings": "sibling",
    }
    metrics = run_stage(STAGE, settings, inputs, tmp_path / "run")
    assert metrics["weights"] == {"one": 0.8, "sibling": 0.3}
    folders = [inputs["base"].path("model"), inputs["model:0"].path("model"), sibling]
    base, one, other = (load_file(folder / "model.safetensors") for folder in folders)
    output = tmp_path / "run/output/model"
    for name, found in load_file(output / "model.safetensors").items():
        expected = base[name].double() + 0.8 * (one[name] - base[name]) + 0.3 * (other[name] - base[name])
        torch.testing.assert_close(found, expected.float())
    assert (output / "chat_template.jinja").read_text() == "{{ messages }}"
    assert [vector["name"] for vector in metrics["analysis"]["vectors"]] == ["one", "sibling"]


def test_a_sibling_of_another_architecture_is_found_before_the_stages_run(
    inputs: dict[str, Any], another_model, tmp_path: Path
) -> None:
    wide = another_model("wide", seed=2)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(wide, hidden_size=64)).save_pretrained(wide)
    made = config({"from": "one", "weight": 0.8}, {"model": str(wide), "weight": 0.3})
    (problem,) = STAGE.check(made, {"base": inputs["base"]})
    assert "different architectures cannot be merged" in problem.message


def test_a_model_that_cannot_be_had_is_found_by_the_fetch(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    made = config({"from": "one", "weight": 0.8}, {"model": str(tmp_path / "empty"), "weight": 0.3})
    (problem,) = STAGE.fetch(made, NullProgress())
    assert problem.key == "models.1.model"
    assert "is not a complete model folder" in problem.message


def test_a_model_that_changed_since_its_fingerprint_is_no_result(
    inputs: dict[str, Any], another_model, tmp_path: Path
) -> None:
    sibling = another_model("sibling", seed=2)
    made = config({"from": "one", "weight": 0.8}, {"model": str(sibling), "weight": 0.3})
    for name in ("output", "work"):
        (tmp_path / name).mkdir()
    contents = {str(sibling): "of another content"}
    context = Context(tmp_path / "output", tmp_path / "work", 17, NullProgress(), {}, contents=contents)
    with pytest.raises(DataError, match="changed while it was read"):
        STAGE.run(made, inputs, context)


def test_a_recipe_checks_the_reference_at_its_line(tiny_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    models = "  - merge:\n      models:\n        - {model: it, weight: 1}\n"
    text = f"name: x\nbase: {tiny_model}\nstages:\n{models}"
    recipe.write_text(text)
    with pytest.raises(RecipeError) as raised:
        load(recipe)
    (problem,) = raised.value.problems
    assert problem.key == "merge.models.0.model"
    assert problem.line == 6
    assert "no such file or folder" in problem.message


def test_the_content_of_a_reference_belongs_to_the_fingerprint(
    tiny_model: Path, another_model, tmp_path: Path
) -> None:
    another_model("sibling", seed=2)
    recipe = tmp_path / "recipe.yaml"
    models = "  - merge:\n      models:\n        - {model: sibling, weight: 0.5}\n"
    recipe.write_text(f"name: x\nbase: {tiny_model}\nstages:\n{models}")

    def action() -> str:
        (entry,) = run(load(recipe), tmp_path / "runs").plan.entries
        return entry.action

    assert [action(), action()] == ["run", "cached"]
    another_model("sibling", seed=3)
    assert action() != "cached"
