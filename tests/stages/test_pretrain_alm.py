"""Approximate likelihood matching as an objective of a recipe, after the tokenizer was replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runs import Heard, artifact, make_corpus, model_artifact, run_stage
from tiny import clinical_texts, sharpen, varied_texts, write_jsonl, write_tiny_model
from tokenizers import Tokenizer, normalizers

from cpt.cli import main
from cpt.errors import RecipeError, StageFailed
from cpt.progress import NullProgress
from cpt.recipe.load import load
from cpt.stages.base import Artifact, Context, UpstreamArtifact, WiringError
from cpt.stages.pretrain.stage import STAGE
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY
from cpt.training.distributed.environment import Environment

ALM = {"kind": "alm", "boundary": 0.02}
"""With a threshold for untrained models, under which every word may go on."""
PLAIN = {
    "tokens": 600,
    "batch_sequences": 4,
    "precision": "fp32",
    "monitor": {"every": 100, "tokens": 200, "probe_share": None, "samples": None, "weights": None},
    "objective": ALM,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A model and a corpus with another tokenizer than the teacher, which is the model before."""
    folder = tmp_path_factory.mktemp("inputs")
    base = model_artifact("base", sharpen(write_tiny_model(folder / "model"), 6), folder)
    corpus = make_corpus(base, folder)
    other = write_tiny_model(folder / "other", seed=1, vocabulary=330)
    change = {"replace": {"tokenizer": str(other)}}
    run_stage(VOCABULARY, change, {"model": base, "corpus": corpus}, folder / "changed")
    changed = artifact("vocabulary", folder / "changed" / "output", "model", "corpus")
    return {"model": changed, "corpus": changed, "teacher": base}


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "output" / "training" / "steps.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def trained(
    config: Mapping[str, Any], inputs: Mapping[str, Artifact], folder: Path, **more: Any
) -> dict[str, torch.Tensor]:
    run_stage(STAGE, PLAIN | config, inputs, folder, **more)
    return load_file(folder / "output" / "model" / "model.safetensors")


def test_training_closes_the_gap_to_the_teacher(inputs, tmp_path: Path) -> None:
    config = {"tokens": 8_000, "epochs": 4, "schedule": {"kind": "constant", "peak": 3e-3}}
    trained(config, inputs, tmp_path)
    losses = [step["loss_parts"]["alm"] for step in steps(tmp_path)]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert all(step["loss_parts"]["left_out"] < 0.3 for step in steps(tmp_path))


def test_every_setting_changes_the_result(inputs, tmp_path: Path, another_model) -> None:
    settings = [
        {},
        {"temperature": 50},
        {"boundary": None},
        {"boundary": 0.05},
        {"cross_entropy": 1},
    ]
    found = [
        trained({"objective": ALM | each}, inputs, tmp_path / str(number))
        for number, each in enumerate(settings)
    ]
    other = inputs | {"teacher": model_artifact("other", another_model("b", seed=9), tmp_path)}
    found.append(trained({}, other, tmp_path / "teacher"))
    for number, one in enumerate(found):
        for another in found[number + 1 :]:
            assert any(not torch.equal(one[name], another[name]) for name in one)


class Dying(Heard):
    """Dies after a step."""

    def update(self, done: int, total: int, unit: str, **_: float) -> None:
        if (done, unit) == (2, "step"):
            raise KeyboardInterrupt


def test_a_killed_stage_continues_as_if_it_had_not_been(inputs, tmp_path: Path) -> None:
    config = {"tokens": 1_000, "precision": "bf16", "checkpoint": {"every": 1}, "micro_batch_sequences": 3}
    whole = trained(config, inputs, tmp_path / "whole")
    killed = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        trained(config, inputs, killed, progress=Dying())
    again = Context(tmp_path / "again", killed / "work", 17, NullProgress(), {})
    STAGE.run(STAGE.Config.model_validate(PLAIN | config), inputs, again)
    continued = load_file(tmp_path / "again" / "model" / "model.safetensors")
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_the_same_tokenizer_is_self_distillation_of_chunks(inputs, tmp_path: Path, another_model) -> None:
    base, other = inputs["teacher"], model_artifact("other", sharpen(another_model("b", seed=9), 6), tmp_path)
    same = {"model": base, "corpus": make_corpus(base, tmp_path / "texts"), "teacher": other}
    assert problems({}, same) == []
    trained({"objective": ALM | {"boundary": None}}, same, tmp_path / "run")
    assert all(step["loss_parts"]["left_out"] < 0.01 for step in steps(tmp_path / "run"))


def test_a_run_that_leaves_most_text_out_says_so(inputs, tmp_path: Path) -> None:
    heard = Heard()
    objective = ALM | {"boundary": 0.9, "cross_entropy": 1}
    trained({"objective": objective}, inputs, tmp_path, progress=heard)
    (said,) = (message for message in heard.messages if "in no chunk" in message)
    assert "or set it to null, as for text without spaces between words" in said


def test_a_run_that_leaves_all_text_out_ends_after_its_first_step() -> None:
    settings = STAGE.Config.model_validate(PLAIN).objective
    assert settings.check_first_step({"alm": 0.5, "left_out": 0.2}) == ""
    with pytest.raises(StageFailed, match="100% of the first batch's targets are in no chunk") as raised:
        settings.check_first_step({"alm": 0.0, "left_out": 1.0})
    assert "objective.boundary" in (raised.value.hint or "")
    whole = settings.model_copy(update={"boundary": None})
    assert "objective.teacher" in whole.check_first_step({"alm": 0.5, "left_out": 0.7})


# what is found wrong before anything runs


def problems(config: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> list[tuple[str | None, str]]:
    found = STAGE.check(STAGE.Config.model_validate(PLAIN | config), inputs)
    return [(problem.key, problem.message) for problem in found]


def test_sound_settings_have_no_problem(inputs) -> None:
    assert problems({}, inputs) == []
    assert problems({}, {}) == []


def test_input_noise_is_refused(inputs) -> None:
    ((key, message),) = problems({"input_noise": 0.1}, inputs)
    assert key == "input_noise"
    assert "reads the text itself" in message


def test_sharded_weights_are_taken() -> None:
    config = STAGE.Config.model_validate(PLAIN)
    for sharded in (True, False):
        assert STAGE.check_environment(config, Environment(processes=2, sharded=sharded), {}) == []


def changed_teacher(inputs: Mapping[str, Artifact], folder: Path, change: Any) -> dict[str, Artifact]:
    """The same inputs, with a teacher whose tokenizer.json is another."""
    shutil.copytree(inputs["teacher"].path("model").resolve(), folder / "teacher" / "model")
    file = folder / "teacher" / "model" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    change(tokenizer)
    tokenizer.save(str(file))
    return {**inputs, "teacher": artifact("teacher", folder / "teacher", "model")}


def test_a_teacher_that_spells_nothing_alike_is_refused(inputs, tmp_path: Path) -> None:
    def scramble(tokenizer: Tokenizer) -> None:
        swaps = [normalizers.Replace(letter, "@") for letter in "abcdefghijklmnopqrstuvwxyz .,"]
        tokenizer.normalizer = normalizers.Sequence(
            [*swaps, *(normalizers.Replace(letter.upper(), "@") for letter in "abcdefghijklmnopqrstuvwxyz")]
        )

    ((key, message),) = problems({}, changed_teacher(inputs, tmp_path, scramble))
    assert key == "objective.teacher"
    assert "spelt alike" in message


def test_a_teacher_that_normalises_some_text_is_no_problem(inputs, tmp_path: Path) -> None:
    def lower(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.Lowercase()

    changed = changed_teacher(inputs, tmp_path, lower)
    assert problems({}, changed) == []
    trained({"objective": ALM | {"boundary": None}}, changed, tmp_path / "run")
    assert all(0 < step["loss_parts"]["left_out"] < 0.5 for step in steps(tmp_path / "run"))


def test_a_teacher_without_a_readable_tokenizer_is_refused(inputs, tmp_path: Path) -> None:
    shutil.copytree(inputs["teacher"].path("model").resolve(), tmp_path / "teacher" / "model")
    (tmp_path / "teacher" / "model" / "tokenizer.json").unlink()
    broken = {**inputs, "teacher": artifact("teacher", tmp_path / "teacher", "model")}
    ((key, message),) = problems({}, broken)
    assert key == "objective.teacher"
    assert "tokenizer.json" in message


def test_a_start_token_that_the_teacher_does_not_have_is_refused(inputs, tmp_path: Path) -> None:
    """The corpus begins documents with a token that is not the tokenizer's own."""
    corpus = tmp_path / "corpus"
    shutil.copytree(inputs["corpus"].path("corpus"), corpus / "corpus")
    index = json.loads((corpus / "corpus" / "corpus.json").read_text())
    index["start_token"] = "Ġheart"
    (corpus / "corpus" / "corpus.json").write_text(json.dumps(index))

    def without(tokenizer: Tokenizer) -> None:
        data = json.loads(tokenizer.to_str())
        assert "Ġheart" in data["model"]["vocab"]

    changed = {**inputs, "corpus": artifact("corpus", corpus, "corpus")}
    assert problems({}, changed) == []  # both have it
    folder = tmp_path / "small"
    write_tiny_model(folder / "model", vocabulary=259)
    (key, message), *_ = problems({}, {**changed, "teacher": artifact("small", folder, "model")})
    assert key == "objective.teacher"
    assert "Ġheart" in message


@pytest.mark.parametrize(
    ("objective", "key"),
    [
        ({"temperature": 0}, "temperature"),
        ({"boundary": 1}, "boundary"),
        ({"cross_entropy": -1}, "cross_entropy"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=str,
)
def test_values_that_mean_nothing_are_refused(objective: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        STAGE.Config.model_validate(PLAIN | {"objective": ALM | objective})


# wiring, plan, recipe

EARLIER = [
    UpstreamArtifact("base", frozenset({"model"})),
    UpstreamArtifact("corpus", frozenset({"corpus"}), {"model": "base"}),
    UpstreamArtifact("vocabulary", frozenset({"model", "corpus"}), {"model": "base", "corpus": "corpus"}),
    UpstreamArtifact("first", frozenset({"model", "training"}), {"model": "vocabulary"}),
]


@pytest.mark.parametrize("teacher", [None, "base", "vocabulary"])
def test_any_earlier_model_may_teach(teacher: str | None) -> None:
    objective = ALM | ({"teacher": teacher} if teacher else {})
    roles = STAGE.wire(STAGE.Config.model_validate(PLAIN | {"objective": objective}), EARLIER)
    assert roles["teacher"] == (teacher or "base")
    assert roles["model"] == "first"


@pytest.mark.parametrize("teacher", ["corpus", "later"])
def test_what_is_no_earlier_model_cannot_teach(teacher: str) -> None:
    config = STAGE.Config.model_validate(PLAIN | {"objective": ALM | {"teacher": teacher}})
    with pytest.raises(WiringError, match="no earlier stage with a model") as raised:
        STAGE.wire(config, EARLIER)
    assert raised.value.problem.key == "objective.teacher"
    assert "base, vocabulary, first" in (raised.value.problem.hint or "")


def test_a_model_cannot_learn_from_itself_alone() -> None:
    def wire(**config: Any) -> dict[str, str]:
        objective = ALM | {"teacher": "first"} | config.pop("objective", {})
        return STAGE.wire(STAGE.Config.model_validate(PLAIN | {"objective": objective} | config), EARLIER)

    with pytest.raises(WiringError, match="nothing to learn from itself"):
        wire()
    with pytest.raises(WiringError, match="nothing to learn from itself"):
        wire(start={})
    assert wire(objective={"cross_entropy": 1})["teacher"] == "first"
    assert wire(start={"checkpoint": 10})["teacher"] == "first"
    assert wire(**{"from": "vocabulary"})["teacher"] == "first"


def test_the_plan_says_so(inputs) -> None:
    for known in ({}, inputs):
        told = STAGE.forecast(STAGE.Config.model_validate(PLAIN), known, {})
        assert "taught by base, chunk by chunk of text (ALM)" in told


RECIPE = """\
name: transfer
base: model
seed: 3
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      replay: [{path: replay.jsonl}]
      heldout: 0.1
      heldout_min: {documents: 1, bytes: 1}
      sequence_length: 64
  - vocabulary: {replace: {tokenizer: other}}
  - pretrain:
      tokens: 1500
      batch_sequences: 4
      micro_batch_sequences: 2
      replay: 0.25
      objective: {kind: alm, teacher: base, boundary: 0.02}
      monitor: {every: 5, tokens: 300, samples: null}
"""


def test_corpus_then_another_tokenizer_then_alm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CPT_RUNS", raising=False)
    sharpen(write_tiny_model(tmp_path / "model"), 6)
    write_tiny_model(tmp_path / "other", seed=1, vocabulary=330)
    write_jsonl(tmp_path / "domain.jsonl", clinical_texts())
    write_jsonl(tmp_path / "replay.jsonl", varied_texts(60, "old "))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert main(["plan", "recipe.yaml"]) == 0
    assert "taught by base, chunk by chunk" in " ".join(capsys.readouterr().out.split())
    assert main(["run", "recipe.yaml"]) == 0
    (log,) = (tmp_path / "runs").glob("transfer/pretrain-*/training/steps.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(record["loss_parts"].keys() == {"alm", "left_out"} for record in records)
    assert all(record["loss_parts"]["left_out"] < 0.3 for record in records)
    assert main(["plan", "recipe.yaml"]) == 0
    assert "stale" not in capsys.readouterr().out
    found = load(tmp_path / "recipe.yaml").step("pretrain")
    assert found.inputs == {"model": "vocabulary", "corpus": "vocabulary", "teacher": "base"}
    with pytest.raises(RecipeError, match="no earlier stage with a model"):
        load(tmp_path / "recipe.yaml", ["pretrain.objective.teacher=corpus"])
    assert main(["estimate", "recipe.yaml"]) == 0
