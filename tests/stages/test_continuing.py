"""A pretrain stage that continues another one: from which model, and where in the data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runs import artifact, make_corpus, model_artifact, run_stage
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import RecipeError, StageFailed
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.pretrain.continuation import write_checkpoint_models
from cpt.stages.pretrain.stage import STAGE
from cpt.training.checkpoint import CheckpointKind
from cpt.training.schedules import Constant

PLAIN = {"batch_sequences": 4, "precision": "fp32", "monitor": {"every": 100, "tokens": 200}}
LEVEL = {"kind": "constant", "warmup": 0}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("base")
    model = model_artifact("base", tiny_model, folder)
    return {"model": model, "corpus": make_corpus(model, folder / "corpus")}


@pytest.fixture(scope="module")
def first(base: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A finished stage of 8 steps, with a milestone after the fourth, before which it is annealed."""
    folder = tmp_path_factory.mktemp("first")
    patch = pytest.MonkeyPatch()
    patch.setattr(Constant, "anneal_begins", lambda self, total: 6)
    config = PLAIN | {"tokens": 1600, "schedule": LEVEL, "checkpoint": {"keep_every": 4}}
    metrics = run_stage(STAGE, config, base, folder)
    patch.undo()
    assert metrics["steps"] == 8
    made = artifact("first", folder / "output", "model", "training")
    return made.model_copy(update={"parents": {"corpus": base["corpus"].fingerprint}})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_kept_checkpoints_are_model_folders_and_a_list(first: Artifact, base, tmp_path: Path) -> None:
    kept = json.loads((first.path("training") / "checkpoints.json").read_text())
    assert [(each["step"], each["kind"], each["passed"]["domain"]) for each in kept] == [
        (4, "milestone", 16),
        (6, "pre-anneal", 24),
        (8, "last", 32),
    ]
    for each in kept:
        folder = first.folder / each["folder"]
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert AutoTokenizer.from_pretrained(folder).get_vocab()
    run_stage(STAGE, PLAIN | {"tokens": 700, "schedule": LEVEL}, base, tmp_path)
    steps = json.loads((tmp_path / "output/training/summary.json").read_text())["steps"]
    assert steps == 4
    assert distance(weights(first.folder / kept[0]["folder"]), weights(tmp_path / "output" / "model")) == 0


def test_a_kept_checkpoint_that_is_lost_is_named_and_does_not_cost_the_training(tmp_path: Path) -> None:
    def save(step: int, folder: Path) -> None:
        if step == 4:
            raise StageFailed("the checkpoint of step 4 is unreadable: state.json is missing")
        folder.mkdir(parents=True)

    (tmp_path / "training").mkdir()
    said: list[str] = []
    steps: dict[int, CheckpointKind] = {2: "milestone", 4: "milestone", 6: "last"}
    write_checkpoint_models(tmp_path, steps, lambda step: {"domain": step}, save, said.append)
    kept = json.loads((tmp_path / "training/checkpoints.json").read_text())
    assert [each["step"] for each in kept] == [2, 6]
    assert said == [
        "the milestone model of step 4 is left out: "
        "the checkpoint of step 4 is unreadable: state.json is missing"
    ]


def distance(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    return max(float((a[name] - value).abs().max()) for name, value in b.items())


def go_on(
    first: Artifact, base: Mapping[str, Artifact], folder: Path, start: dict[str, Any], **more: Any
) -> Path:
    inputs = {"model": first, "corpus": base["corpus"]}
    run_stage(STAGE, PLAIN | {"tokens": 300, "schedule": LEVEL, "start": start} | more, inputs, folder)
    return folder / "output"


@pytest.mark.parametrize(("checkpoint", "step"), [("last", 8), ("pre-anneal", 6), (4, 4)])
def test_it_starts_from_the_checkpoint_that_is_named_and_from_the_data_behind_it(
    first: Artifact, base, tmp_path: Path, checkpoint: str | int, step: int
) -> None:
    output = go_on(first, base, tmp_path, {"checkpoint": checkpoint}, schedule=LEVEL | {"peak": 1e-7})
    kept = json.loads((first.path("training") / "checkpoints.json").read_text())
    ours = weights(output / "model")  # hardly moved at such a rate
    near = [each["step"] for each in kept if distance(ours, weights(first.folder / each["folder"])) < 1e-5]
    assert near == [step]
    (last,) = json.loads((output / "training/checkpoints.json").read_text())
    assert last["passed"]["domain"] == 4 * (step + last["step"])


def test_the_data_go_on_unless_they_are_wanted_again_or_the_corpus_is_another(
    first: Artifact, base, tmp_path: Path
) -> None:
    def passed(output: Path) -> int:
        (last,) = json.loads((output / "training/checkpoints.json").read_text())
        return int(last["passed"]["domain"]) - 4 * last["step"]

    assert passed(go_on(first, base, tmp_path / "a", {})) == 32
    assert passed(go_on(first, base, tmp_path / "b", {"data": "again"})) == 0
    other = first.model_copy(update={"parents": {"corpus": "another"}})
    assert passed(go_on(other, base, tmp_path / "c", {})) == 0


def test_without_start_a_second_stage_begins_at_the_beginning(first: Artifact, base, tmp_path: Path) -> None:
    run_stage(STAGE, PLAIN | {"tokens": 300}, {"model": first, "corpus": base["corpus"]}, tmp_path)
    (last,) = json.loads((tmp_path / "output/training/checkpoints.json").read_text())
    assert last["passed"]["domain"] == 4 * last["step"]


def test_a_checkpoint_that_was_not_kept_is_a_problem(first: Artifact, base, tmp_path: Path) -> None:
    inputs = {"model": first, "corpus": base["corpus"]}
    config = STAGE.Config.model_validate(PLAIN | {"tokens": 300, "start": {"checkpoint": 5}})
    (problem,) = STAGE.check(config, inputs)
    assert problem.key == "start.checkpoint"
    assert "milestone (step 4), pre-anneal (step 6), last (step 8)" in problem.message
    with pytest.raises(RecipeError):
        go_on(first, base, tmp_path, {"checkpoint": 5})


def test_text_that_was_seen_does_not_count_as_available(first: Artifact, base) -> None:
    inputs = {"model": first, "corpus": base["corpus"]}
    settings = PLAIN | {"tokens": 50_000}

    def problems(**start: Any) -> list[str]:
        config = STAGE.Config.model_validate(settings | {"start": start})
        return [problem.message for problem in STAGE.check(config, inputs)]

    (message,) = problems()
    (again,) = problems(data="again")
    assert "lasts for" in message
    left, whole = (int(text.split("lasts for ")[1].split()[0]) for text in (message, again))
    assert whole - left == 8


def test_only_a_training_can_be_continued() -> None:
    earlier = [
        UpstreamArtifact("base", frozenset({"model"})),
        UpstreamArtifact("corpus", frozenset({"corpus"})),
        UpstreamArtifact("pretrain", frozenset({"model", "training"})),
        UpstreamArtifact("merge", frozenset({"model"})),
    ]
    config = STAGE.Config.model_validate({"tokens": 1, "start": {}})
    with pytest.raises(WiringError) as caught:
        STAGE.wire(config, earlier)
    assert caught.value.problem.message.startswith("`merge` is no pretrain stage")
    config = STAGE.Config.model_validate({"tokens": 1, "start": {}, "from": "pretrain"})
    assert STAGE.wire(config, earlier) == {"model": "pretrain", "corpus": "corpus"}
