"""Objective, pull and average as settings of a recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runs import artifact, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.errors import RecipeError
from cpt.recipe.load import load
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.stage import STAGE
from cpt.training.distributed.environment import Environment

PLAIN = {
    "tokens": 600,
    "batch_sequences": 4,
    "replay": 0.25,
    "precision": "fp32",
    "monitor": {"every": 100, "tokens": 200, "probe_share": None, "samples": None, "weights": None},
}
CONSTRAINT = {"kind": "self-constraint"}
DISTILLATION = {"kind": "self-distillation", "teacher": "first"}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A model, a corpus with replay text, and a teacher."""
    folder = tmp_path_factory.mktemp("inputs")
    model = model_artifact("base", tiny_model, folder)
    config = {
        "domain": [{"path": str(write_jsonl(folder / "domain.jsonl", clinical_texts()))}],
        "replay": [{"path": str(write_jsonl(folder / "replay.jsonl", varied_texts(60, "old ")))}],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": model}, folder / "made")
    found = {"model": model, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}
    run_stage(STAGE, PLAIN, found, folder / "first")
    return found | {"teacher": artifact("first", folder / "first" / "output", "model", "training")}


def weights(
    config: Mapping[str, Any], inputs: Mapping[str, Artifact], folder: Path
) -> dict[str, torch.Tensor]:
    run_stage(STAGE, PLAIN | config, inputs, folder)
    return load_file(folder / "output" / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({}, {"objective": CONSTRAINT}),
        ({"objective": CONSTRAINT}, {"objective": CONSTRAINT | {"weight": 9}}),
        ({}, {"objective": DISTILLATION}),
        ({"objective": DISTILLATION}, {"objective": DISTILLATION | {"weight": 9}}),
        ({}, {"l2_sp": {"strength": 100}}),
        ({"l2_sp": {"strength": 100}}, {"l2_sp": {"strength": 900}}),
        ({}, {"average": {"kind": "ema", "decay": 0.5}}),
        ({}, {"average": {"kind": "lawa", "every": 1, "last": 2}}),
    ],
    ids=str,
)
def test_every_setting_changes_the_result(
    inputs, tmp_path: Path, settings: dict[str, Any], changed: dict[str, Any]
) -> None:
    first, second = (
        weights(config, inputs, tmp_path / name) for name, config in (("a", settings), ("b", changed))
    )
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_parts_of_the_loss_are_in_the_log(inputs, tmp_path: Path) -> None:
    weights({"objective": CONSTRAINT}, inputs, tmp_path)
    lines = (tmp_path / "output/training/steps.jsonl").read_text().splitlines()
    assert [set(json.loads(line)["loss_parts"]) for line in lines] == [{"domain", "kl"}] * len(lines)


@pytest.mark.parametrize(
    ("config", "key", "words"),
    [
        ({"objective": CONSTRAINT, "replay": 0}, "objective.kind", "replay is 0"),
        ({"l2_sp": {"strength": 1}, "trainable": {"kind": "lora", "rank": 4}}, "l2_sp", "two factors"),
        ({"average": {"kind": "ema"}, "trainable": {"kind": "lora", "rank": 4}}, "average", "two factors"),
        (
            {"average": {"kind": "ema"}, "master_weights": "stochastic-rounding"},
            "average.kind",
            "stochastic rounding",
        ),
        ({"average": {"kind": "lawa", "every": 9}}, "average.every", "more than the run has"),
        ({"l2_sp": {"strength": 1e6}}, "l2_sp.strength", "100 times the distance"),
        (
            {"l2_sp": {"strength": 6e3}, "trainable": {"rates": {"norms": 3}}},
            "l2_sp.strength",
            "1.8 times the distance",
        ),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_a_problem(inputs, config: dict[str, Any], key: str, words: str) -> None:
    (problem,) = STAGE.check(STAGE.Config.model_validate(PLAIN | config), inputs)
    assert problem.key == key
    assert words in problem.message


def test_replay_that_a_gate_may_bring_in_is_enough_for_self_constraint(inputs) -> None:
    gate = {"limit": "weights <= 0.02", "action": "raise-replay"}
    config = PLAIN | {"objective": CONSTRAINT, "replay": 0, "gates": [gate], "monitor": {"every": 5}}
    assert STAGE.check(STAGE.Config.model_validate(config), inputs) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": CONSTRAINT}, "replay rows hold it to its start"),
        (
            {"gates": [{"limit": "general <= +0.02", "action": "raise-replay"}]},
            "bounded: general <= +0.02 (raise-replay)",
        ),
        ({"objective": DISTILLATION}, "taught by first"),
        ({"l2_sp": {"strength": 1}}, "weights decay towards their start (L2-SP)"),
        ({"average": {"kind": "ema"}}, "the result is an average of weights (ema)"),
    ],
    ids=["self-constraint", "gates", "self-distillation", "l2_sp", "average"],
)
def test_the_plan_says_so(inputs, settings: dict[str, Any], words: str) -> None:
    for known in ({}, inputs):
        plain, told = (
            STAGE.forecast(STAGE.Config.model_validate(PLAIN | s), known, {}) for s in ({}, settings)
        )
        assert words in told
        assert words not in plain


TRAINING = frozenset({"model", "training"})
MODEL = frozenset({"model"})
EARLIER = [
    UpstreamArtifact("base", MODEL),
    UpstreamArtifact("corpus", frozenset({"corpus"}), {"model": "base"}),
    UpstreamArtifact("first", TRAINING, {"model": "base", "corpus": "corpus"}),
    UpstreamArtifact("second", TRAINING, {"model": "first", "corpus": "corpus"}),
    UpstreamArtifact("vocabulary", frozenset({"model", "corpus"}), {"model": "base", "corpus": "corpus"}),
    UpstreamArtifact("third", TRAINING, {"model": "vocabulary", "corpus": "vocabulary"}),
]


def wired(teacher: str, start: str | None) -> dict[str, str]:
    objective = {"kind": "self-distillation", "teacher": teacher}
    return STAGE.wire(
        STAGE.Config.model_validate({"tokens": 9, "objective": objective, "from": start}), EARLIER
    )


@pytest.mark.parametrize(
    ("teacher", "start"),
    [("first", "base"), ("second", "base"), ("second", "first"), ("third", "vocabulary")],
)
def test_a_student_starts_where_its_teachers_training_did(teacher: str, start: str) -> None:
    roles = wired(teacher, start)
    assert (roles["teacher"], roles["model"]) == (teacher, start)


@pytest.mark.parametrize(
    ("teacher", "start", "key", "words"),
    [
        ("third", "base", "from", "began at `vocabulary`"),
        ("first", "vocabulary", "from", "began at `base`"),
        ("third", None, "from", "began at `vocabulary`"),
        ("vocabulary", "base", "objective.teacher", "no earlier pretrain stage"),
        ("fourth", "base", "objective.teacher", "no earlier pretrain stage"),
    ],
)
def test_other_teachers_and_starts_are_refused(teacher: str, start: str | None, key: str, words: str) -> None:
    """Another vocabulary, the teacher itself, what is no training, and what there is not."""
    with pytest.raises(WiringError, match=words) as raised:
        wired(teacher, start)
    assert raised.value.problem.key == key


def test_in_a_recipe_it_is_told_with_its_line(tiny_model: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "texts.jsonl", ["a"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""\
name: tiny
base: {tiny_model}
stages:
  - corpus: {{domain: [{{path: texts.jsonl}}], sequence_length: 64}}
  - pretrain: {{name: first, tokens: 1000}}
  - pretrain:
      name: second
      tokens: 1000
      objective: {{kind: self-distillation, teacher: first}}
"""
    )
    with pytest.raises(RecipeError, match="began at `base`"):
        load(recipe)
    found = load(recipe, ["second.from=base"])
    assert found.step("second").inputs == {"model": "base", "corpus": "corpus", "teacher": "first"}


def test_a_reference_model_may_be_sharded() -> None:
    config = STAGE.Config.model_validate(PLAIN | {"objective": CONSTRAINT})
    assert STAGE.check_environment(config, Environment(processes=2, sharded=True), {}) == []
    plain = STAGE.Config.model_validate(PLAIN | {"l2_sp": {"strength": 1}, "average": {"kind": "ema"}})
    assert STAGE.check_environment(plain, Environment(processes=2, sharded=True), {}) == []
