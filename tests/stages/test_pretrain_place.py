"""What the place of a run rules out is told with the recipe, before any stage runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpt.cli import main
from cpt.errors import RecipeError
from cpt.recipe.load import load
from cpt.training.distributed.environment import Environment, Hardware

DIVIDED = Environment(processes=2, sharded=True)
T4 = Hardware("t4", is_gpu=True, bfloat16=False, capability=(7, 5))
H100 = Hardware("h100", is_gpu=True, bfloat16=True, capability=(9, 0))


@pytest.fixture
def recipe_file(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    Path("texts.jsonl").write_text('{"text": "a"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""\
name: tiny
base: {tiny_model}
stages:
  - corpus: {{domain: [{{path: texts.jsonl}}], sequence_length: 64}}
  - vocabulary: {{extend: {{tokens: 30}}}}
  - pretrain: {{tokens: 1000}}
"""
    )
    return path


def problems(file: Path, place: Environment, *overrides: str) -> list[tuple[str | None, str]]:
    try:
        load(file, overrides, place=place)
    except RecipeError as error:
        return [(problem.key, problem.message) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "override",
    [
        "optimizer={kind: muon}",
        "trainable={kind: lora}",
        "trainable={rates: {new_tokens: 3}}",
        "anomalies={spike: roll-back}",
        "master_weights=stochastic-rounding",
        "gradient_checkpointing=true",
        "compile=true",
        "gradient_sync=last",
    ],
)
def test_what_divided_weights_go_with(recipe_file: Path, override: str) -> None:
    assert problems(recipe_file, DIVIDED, f"pretrain.{override}", "pretrain.precision=bf16") == []
    assert problems(recipe_file, Environment(H100, 2, sharded=True), "pretrain.precision=fp8") == []


@pytest.mark.parametrize("place", [Environment(), Environment(processes=2)])
def test_gradients_of_whole_weights_are_summed_once_in_any_case(
    recipe_file: Path, place: Environment
) -> None:
    assert problems(recipe_file, place, "pretrain.gradient_sync=every") == []
    ((key, message),) = problems(recipe_file, place, "pretrain.gradient_sync=last")
    assert key == "pretrain.gradient_sync"
    assert message.startswith("gradient_sync: last is for sharded weights")


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_commands_tell_it_for_the_words_after_the_dashes(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("cpt.cli.launch._devices", lambda: 0)
    monkeypatch.setattr("cpt.cli.run.launch", lambda *_: pytest.fail("started"))
    words = (command, "recipe.yaml")
    launcher = ("--", "--num_processes", "2", "--use_fsdp", "--fsdp_version")
    assert main([*words, *launcher, "1"]) == 2
    assert "FSDP version 1 is not supported" in capsys.readouterr().err
    assert main([*words, *launcher, "2", "--mixed_precision", "bf16"]) == 2
    assert "set the pretrain stage's `precision`" in capsys.readouterr().err


def test_processes_that_were_started_refuse_before_the_first_stage(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert main(["run", "recipe.yaml"]) == 2
    assert "DeepSpeed is not supported" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_hardware_elsewhere_has_is_asked_and_not_this_machines(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert problems(recipe_file, Environment(H100), "pretrain.precision=fp8") == []
    ((key, message),) = problems(recipe_file, Environment(T4), "pretrain.precision=fp8")
    assert (key, message[-14:]) == ("pretrain.precision", "and t4 has 7.5")
    monkeypatch.setattr("cpt.models.packed_model.has_fast_bfloat16", lambda: False)
    rounded = "pretrain.master_weights=stochastic-rounding"
    assert problems(recipe_file, Environment(H100), rounded) == []
    assert "float32 on t4" in problems(recipe_file, Environment(T4), rounded)[0][1]
    assert "float32 here" in problems(recipe_file, Environment(), rounded)[0][1]


def test_what_is_not_installed_here_matters_only_here(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.training.optimizers.adamw_8bit.find_spec", lambda name: None)
    monkeypatch.setattr("cpt.training.features.trackers._installed", lambda _: False)
    words = ("pretrain.optimizer.kind=adamw-8bit", "pretrain.trackers=[wandb]")
    assert problems(recipe_file, Environment(H100), *words) == []
    found = problems(recipe_file, Environment(), *words)
    assert [key for key, _ in found] == ["pretrain.optimizer.kind", "pretrain.trackers"]


def test_what_trains_is_judged_as_soon_as_the_base_is_there(recipe_file: Path, capsys: Any) -> None:
    words = ("run", "recipe.yaml", "pretrain.from=base", "pretrain.trainable={kind: layers, layers: 7}")
    assert main(words) == 2
    assert "not within the model's 2 layers" in capsys.readouterr().err
    assert not list(Path("runs/tiny").glob("*corpus*"))


CONTINUED = "  - pretrain: {name: more, tokens: 1000, start: {checkpoint: pre-anneal}}\n"


@pytest.mark.parametrize(
    ("earlier", "reason"),
    [
        ("", "its schedule, rewarm-cosine, has no anneal or decay"),
        ("schedule: {kind: constant}", "its schedule, constant, has no anneal or decay"),
        ("schedule: {kind: wsd, decay_share: 0}", "its schedule, wsd, has no anneal or decay"),
        ("schedule: {kind: wsd}, trainable: {kind: lora}", "an adapter trains"),
        ("schedule: {kind: wsd}", None),
        ("schedule: {kind: infinite, unit: tokens}", None),
        ("schedule: {kind: power}", None),
    ],
)
def test_a_model_before_an_anneal_that_there_will_not_be(
    recipe_file: Path, earlier: str, reason: str | None
) -> None:
    text = recipe_file.read_text().replace("tokens: 1000}", f"tokens: 1000, {earlier}}}")
    recipe_file.write_text(text + CONTINUED)
    found = problems(recipe_file, Environment())
    assert [key for key, _ in found] == (["more.start.checkpoint"] if reason else [])
    assert all(f"pretrain keeps no checkpoint pre-anneal: {reason}" in message for _, message in found)


def test_a_tracker_is_named_once_and_a_boolean_is_no_number(recipe_file: Path) -> None:
    ((key, message),) = problems(recipe_file, Environment(), "pretrain.trackers=[wandb, wandb]")
    assert (key, message) == ("pretrain.trackers", "wandb is named twice")
    for override in (
        "tokens=true",
        "anomalies.most=true",
        "checkpoint={keep: true}",
        "optimizer={beta1: false}",
    ):
        ((key, message),) = problems(recipe_file, Environment(), f"pretrain.{override}")
        assert message.startswith("must be a number, not ")
        assert key is not None
        assert key.startswith(f"pretrain.{override.split('=')[0]}")


def test_layers_that_must_be_compiled_need_a_compiler_here(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.training.compilation.compiler_obstacle", lambda **_: "no compiler")
    assert problems(recipe_file, Environment(), "pretrain.compile=true") == [
        ("pretrain.compile", "no compiler")
    ]
    assert problems(recipe_file, Environment(), "pretrain.compile=auto") == []
    assert problems(recipe_file, Environment(H100), "pretrain.compile=true") == []
