"""A pretrain stage that goes on with the optimizer's state of a kept checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from stage_runs import artifact, make_corpus, model_artifact, run_stage

from cpt.errors import DamagedFile, StageFailed
from cpt.stages.base import Artifact
from cpt.stages.pretrain.stage import STAGE
from cpt.training.checkpoint.kept_optimizer import read_kept_optimizer
from cpt.training.checkpoint.stored import StoredTensor
from cpt.training.distributed.environment import Environment

PLAIN = {
    "batch_sequences": 1,  # rows of a larger batch are in another order after a new start
    "precision": "fp32",
    "monitor": {"every": 100, "tokens": 200, "samples": None, "early_end": None, "weights": None},
    "schedule": {"kind": "constant", "peak": 3e-3, "warmup": 0},
}
KEPT = {"checkpoint": {"keep_every": 4, "keep_optimizer": True}}
START = {"from": "first", "start": {"checkpoint": 4, "optimizer": True}}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("base")
    model = model_artifact("base", tiny_model, folder)
    return {"model": model, "corpus": make_corpus(model, folder / "corpus", general=False)}


@pytest.fixture(scope="module")
def first(base: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An uninterrupted run with a milestone after its fourth step."""
    folder = tmp_path_factory.mktemp("first")
    run_stage(STAGE, PLAIN | KEPT | {"tokens": 500}, base, folder)
    made = artifact("first", folder / "output", "model", "training")
    config = STAGE.Config.model_validate(PLAIN | KEPT).model_dump(mode="json")
    return made.model_copy(update={"parents": {"corpus": base["corpus"].fingerprint}, "config": config})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def left(first: Artifact) -> int:
    """Tokens of the uninterrupted run after its milestone."""
    lines = (first.path("training") / "steps.jsonl").read_text().splitlines()
    tokens = {row["step"]: row["tokens"] for row in map(json.loads, lines)}
    assert max(tokens) > 6
    return int(max(tokens.values()) - tokens[4])


def test_a_run_with_the_carried_state_ends_as_one_that_was_not_interrupted(
    base: Mapping[str, Artifact], first: Artifact, tmp_path: Path
) -> None:
    later = {**base, "model": first}
    config = PLAIN | START | {"tokens": left(first)}
    assert STAGE.check(STAGE.Config.model_validate(config), later) == []
    run_stage(STAGE, config, later, tmp_path / "carried")
    fresh = config | {"start": {"checkpoint": 4}}
    run_stage(STAGE, fresh, later, tmp_path / "fresh")
    whole = weights(first.path("model"))
    carried, restarted = (weights(tmp_path / name / "output/model") for name in ("carried", "fresh"))
    assert all(torch.equal(carried[name], weight) for name, weight in whole.items())
    assert not all(torch.equal(restarted[name], weight) for name, weight in whole.items())


def test_the_state_is_kept_if_asked(base: Mapping[str, Artifact], first: Artifact, tmp_path: Path) -> None:
    state = load_file(first.folder / "training/checkpoints/step-000000004/optimizer.safetensors")
    assert {key.rpartition("/")[2] for key in state} == {"exp_avg", "exp_avg_sq", "step"}
    assert not (first.path("model") / "optimizer.safetensors").exists()
    run_stage(STAGE, PLAIN | {"tokens": 350, "checkpoint": {"keep_every": 4}}, base, tmp_path)
    assert not list((tmp_path / "output").rglob("optimizer.safetensors"))
    made = artifact("first", tmp_path / "output", "model", "training")
    (problem,) = STAGE.check(STAGE.Config.model_validate(PLAIN | START), {**base, "model": made})
    assert (problem.key, "kept no optimizer state" in problem.message) == ("start.optimizer", True)


def test_states_that_cannot_go_on_are_refused(first: Artifact, base: Mapping[str, Artifact]) -> None:
    with pytest.raises(ValidationError, match="not with the last"):
        STAGE.Config.model_validate(PLAIN | {"start": {"optimizer": True}})
    other = {"optimizer": {"kind": "muon"}, "master_weights": "stochastic-rounding"}
    for key, value in other.items():
        config = STAGE.Config.model_validate(PLAIN | START | {"tokens": 100, key: value})
        (problem,) = STAGE.check(config, {**base, "model": first})
        assert (problem.key, f"another `{key}`" in problem.message) == (key, True)
    unkept = STAGE.Config.model_validate(PLAIN)
    config = STAGE.Config.model_validate(PLAIN | START)
    (problem,) = STAGE.check_environment(config, Environment(), {"model": [unkept]})
    assert (problem.key, "keeps no optimizer state" in problem.message) == ("start.optimizer", True)
    kept = STAGE.Config.model_validate(PLAIN | KEPT)
    assert STAGE.check_environment(config, Environment(), {"model": [kept]}) == []


def test_the_plan_says_what_kept_states_take(base: Mapping[str, Artifact]) -> None:
    """Milestones after steps 4 and 8 of 9 or more: two states of 8 bytes a weight at most."""
    from cpt.formatting import size
    from cpt.models.weights import count_parameters

    def plan(**settings: Any) -> str:
        return STAGE.forecast(STAGE.Config.model_validate(PLAIN | {"tokens": 500, **settings}), base, {})

    weights = count_parameters(base["model"].path("model"))
    assert f"stays with 2 models: up to {size(2 * 8 * weights)} of disk space" in plan(**KEPT)
    infinite = {"schedule": {"kind": "infinite", "peak": 1e-3}}
    assert "stays with 3 models" in plan(**KEPT, **infinite)
    kept_alone = {"checkpoint": {"keep_optimizer": True}}
    assert "keep_optimizer keeps nothing" in plan(**kept_alone)
    assert "stays with 1 model:" in plan(**kept_alone, **infinite)
    assert "disk space" not in plan()


def test_a_damaged_state_and_one_of_other_weights_are_named(tmp_path: Path) -> None:
    file = tmp_path / "optimizer.safetensors"
    with pytest.raises(DamagedFile, match="no optimizer state"):
        read_kept_optimizer(file, ["a"])
    file.write_bytes(b"damaged")
    with pytest.raises(DamagedFile, match="no optimizer state"):
        read_kept_optimizer(file, ["a"])
    data: Any = {"data": json.dumps({"kept on the host": []})}
    save_file({"a/step": torch.ones(1), "b/step": torch.ones(1)}, file, metadata=data)
    read = read_kept_optimizer(file, ["a", "b"])
    assert read.keys() == {"a/step", "b/step", "kept on the host"}
    assert isinstance(read["a/step"], StoredTensor), "a process that has a shard reads its rows alone"
    with pytest.raises(StageFailed, match="not of the weights that train here: b"):
        read_kept_optimizer(file, ["a"])
