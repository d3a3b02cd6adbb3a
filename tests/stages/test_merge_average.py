"""The merge stage as an average of a training's checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runs import artifact, make_corpus, model_artifact, run_stage

from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.merge.stage import STAGE
from cpt.stages.pretrain.continuation import Checkpoint
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment
from merging.averaging import exponential, instead_of_annealing, uniform

PLAIN = {"tokens": 1600, "batch_sequences": 4, "precision": "fp32", "monitor": {"every": 100, "tokens": 200}}
WSD = {"kind": "wsd", "warmup": 0, "decay_share": 0.25}
LAWA = {"of": "pretrain", "kind": "lawa", "last": 3}


@pytest.fixture(scope="module")
def training(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Eight steps, a milestone every second, annealed from the sixth on."""
    folder = tmp_path_factory.mktemp("training")
    model = model_artifact("base", tiny_model, folder)
    inputs = {"model": model, "corpus": make_corpus(model, folder / "corpus")}
    config = PLAIN | {"schedule": WSD, "checkpoint": {"keep_every": 2}}
    run_stage(PRETRAIN, config, inputs, folder / "run")
    return artifact("pretrain", folder / "run/output", "model", "training")


def kept(training: Artifact) -> dict[int, dict[str, torch.Tensor]]:
    entries = json.loads((training.path("training") / "checkpoints.json").read_text())
    checkpoints = [Checkpoint.model_validate(entry) for entry in entries]
    return {each.step: load_file(training.folder / each.folder / "model.safetensors") for each in checkpoints}


def problems(average: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> list[Any]:
    return STAGE.check(STAGE.Config.model_validate({"average": average}), inputs)


@pytest.mark.parametrize(
    ("average", "steps", "factors"),
    [
        ({"kind": "lawa", "last": 3}, [4, 6, 8], uniform(3)),
        ({"kind": "lawa", "last": 2}, [6, 8], uniform(2)),
        ({"kind": "ema"}, [2, 4, 6, 8], exponential(4, 0.8)),
        ({"kind": "ema", "decay": 0.3, "last": 3}, [4, 6, 8], exponential(3, 0.3)),
        ({"kind": "soup"}, [2, 4, 6, 8], uniform(4)),
        ({"kind": "soup", "last": 2}, [6, 8], uniform(2)),
        ({"kind": "wsd"}, [2, 4, 6], instead_of_annealing(3, "1-sqrt")),
        ({"kind": "wsd", "decay": "cosine", "last": 2}, [4, 6], instead_of_annealing(2, "cosine")),
    ],
)
def test_the_average_of_a_training(
    average: dict[str, Any], steps: list[int], factors: list[float], training: Artifact, tmp_path: Path
) -> None:
    settings = {"average": {"of": "pretrain"} | average}
    metrics = run_stage(STAGE, settings, {"training": training}, tmp_path)
    assert metrics["weights"] == pytest.approx(
        {f"step {step}": w for step, w in zip(steps, factors, strict=True)}
    )
    read = kept(training)
    for name, ours in load_file(tmp_path / "output/model/model.safetensors").items():
        expected = sum(
            factor * read[step][name].double() for step, factor in zip(steps, factors, strict=True)
        )
        torch.testing.assert_close(ours, expected.float(), rtol=1.2e-7, atol=1e-12)
    assert f"| step {steps[-1]} |" in (tmp_path / "output/model/README.md").read_text()
    assert "Of pretrain, " in (tmp_path / "output/model/README.md").read_text()


def test_the_data_type_can_be_chosen(training: Artifact, tmp_path: Path) -> None:
    run_stage(STAGE, {"average": LAWA, "dtype": "bfloat16"}, {"training": training}, tmp_path)
    found = load_file(tmp_path / "output/model/model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}


def test_too_few_checkpoints_are_found_before_anything_runs(training: Artifact) -> None:
    assert problems(LAWA, {"training": training}) == []
    assert problems(LAWA, {}) == []
    (problem,) = problems(LAWA | {"last": 9}, {"training": training})
    assert "pretrain kept 4 models to average, 9 are needed" in problem.message
    assert problem.key == "average"
    (problem,) = problems({"of": "pretrain", "kind": "wsd", "last": 4}, {"training": training})
    assert "kept 3 models from before its anneal to average, 4 are needed" in problem.message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "checkpoint.keep_every is not set"),
        ({"checkpoint": {"keep_every": 2}, "trainable": {"kind": "lora"}}, "an adapter trains"),
        ({"checkpoint": {"keep_every": 2}}, None),
    ],
)
def test_a_training_that_will_keep_none_is_found_in_the_recipe(settings: dict, message: str | None) -> None:
    maker = PRETRAIN.Config.model_validate(PLAIN | settings)
    found = STAGE.check_environment(
        STAGE.Config.model_validate({"average": LAWA}), Environment(), {"training": [maker]}
    )
    assert [message in problem.message for problem in found if message] == ([True] if message else [])
    assert len(found) == (message is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"average": {"of": "pretrain", "kind": "lawa"}}, "last"),
        ({"average": LAWA | {"last": 1}}, "greater than 1"),
        ({"average": LAWA | {"decay": 0.5}}, "decay"),
        ({"average": {"of": "pretrain", "kind": "ema", "decay": 1.0}}, "less than 1"),
        ({"average": {"of": "pretrain", "kind": "wsd", "decay": "sudden"}}, "1-sqrt"),
        ({"average": {"kind": "soup"}}, "of"),
        ({"average": {"of": "pretrain", "kind": "mean"}}, "lawa"),
        ({"average": LAWA, "method": "ties"}, "leave out method"),
        ({"average": LAWA, "models": [{"from": "a"}]}, "leave out models"),
        ({}, "at least one model"),
    ],
)
def test_settings_of_an_average_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config.model_validate(settings)


def test_the_role_is_the_training_that_is_named() -> None:
    earlier = [
        UpstreamArtifact("base", frozenset({"model"})),
        UpstreamArtifact("pretrain", frozenset({"model", "training"})),
    ]
    config = STAGE.Config.model_validate({"average": LAWA})
    assert STAGE.wire(config, earlier) == {"training": "pretrain"}
    for name, message in (("base", "`base` is no pretrain stage"), ("law", "no earlier stage called `law`")):
        with pytest.raises(WiringError, match=message) as raised:
            STAGE.wire(STAGE.Config.model_validate({"average": LAWA | {"of": name}}), earlier)
        assert raised.value.problem.key == "average.of"
