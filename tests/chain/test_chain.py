"""The whole chain on a tiny model: what it makes, what a kill costs, what a change costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dying import die_as_told
from faults.forking import Command, run
from tiny import write_chain

from cpt.cli import main

Told = Callable[..., Any]
PATIENCE = 300
"""Seconds after which a command hangs."""
STAGES = ["corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"]


@pytest.fixture
def told(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Call the command in this process, in the folder of the finished run; gives the JSON that it prints."""
    monkeypatch.chdir(finished)
    monkeypatch.setenv("CPT_CACHE", str(finished / "cache"))

    def call(*words: str) -> Any:
        assert main([*words, "--json"]) == 0, words
        return json.loads(capsys.readouterr().out)

    return call


def made(folder: Path, stage: str, file: str) -> Path:
    """The one file of that name that a stage made."""
    (path,) = (folder / "runs" / "tiny").glob(f"{stage}-*/{file}")
    return path


@pytest.fixture(scope="module")
def finished(finished_workspace: Path) -> Path:
    """A folder in which the chain has run undisturbed."""
    return finished_workspace


def test_report_json_keeps_the_contract(finished: Path, told: Told) -> None:
    facts = told("report")
    for probe in ("domain", "general"):
        figures = facts["probes"][probe]
        assert {"before", "after", "depth", "trough_step", "recovery_step", "area", "permanent"} <= set(
            figures
        )
        assert figures["permanent"] == pytest.approx(figures["after"] - figures["before"])
    assert facts["probes"]["domain"]["after"] < facts["probes"]["domain"]["before"]
    ledger = json.loads(made(finished, "pretrain", "training/ledger.json").read_text())
    assert facts["tokens"] == {source: entry["tokens"] for source, entry in ledger.items()}
    assert facts["tokens_per_second"] > 0
    assert set(facts["seconds"]) == set(STAGES) - {"report"}
    assert all(point["loss_nats"] > 0 for point in facts["training"]["points"])
    assert "Training loss" in made(finished, "report", "report/report.html").read_text()
    vocabulary = facts["vocabulary"]
    assert vocabulary["after"] == vocabulary["before"] + 20
    assert vocabulary["bytes_per_token_after"] > vocabulary["bytes_per_token_before"]


def test_final_model_loads_as_any_hugging_face_model(finished: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = made(finished, "merge", "model/config.json").parent
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.vocab_size % 64 == 0
    assert len(tokenizer) == 320 <= model.config.vocab_size
    assert model.generation_config.eos_token_id == 1


def test_killed_in_every_stage_and_run_again_ends_with_the_same_weights(
    finished: Path, tmp_path: Path
) -> None:
    """One run that is killed nine times: each command gets as far as the next place to die."""
    folder = write_chain(tmp_path / "killed")
    for where in ("sampling", "corpus", "vocabulary", "step 5", "step 7", *STAGES[2:]):
        stage, _, step = where.partition(" ")
        death = {"DIE": stage, "STEP": step}
        killed = Command(["run", "recipe.yaml"], folder, death, die_as_told).wait(PATIENCE)
        assert killed.code == -9, (where, killed.err)
    again = run(["run", "recipe.yaml"], folder, PATIENCE)
    assert again.code == 0, again.err
    for stage in ("pretrain", "merge"):
        weights = "model/model.safetensors"
        assert made(folder, stage, weights).read_bytes() == made(finished, stage, weights).read_bytes()
    scores = "scores/scores.json"
    assert made(folder, "evaluate", scores).read_text() == made(finished, "evaluate", scores).read_text()
    left = {path.name for path in (folder / "runs" / "tiny").iterdir() if path.name.startswith(".tmp")}
    assert left == set()


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("corpus.sequence_length=32", "corpus"),
        ("vocabulary.extend.tokens=10", "vocabulary"),
        ("pretrain.schedule.peak=2e-3", "pretrain"),
        ("merge.models.0.weight=0.5", "merge"),
        ("evaluate.confidence=0.9", "evaluate"),
        ("report.title=Other", "report"),
    ],
)
def test_a_change_runs_its_stage_and_those_after_it_and_plan_says_why(
    told: Told, change: str, first: str
) -> None:
    plan = told("plan", "recipe.yaml", change)
    actions = {stage["stage"]: stage["action"] for stage in plan["stages"]}
    at = STAGES.index(first)
    assert [actions[name] for name in STAGES] == ["cached"] * at + ["stale"] * (len(STAGES) - at)
    why = {stage["stage"]: str(stage["why"]) for stage in plan["stages"]}
    assert change.partition("=")[0].split(".")[-1] in why[first]


@pytest.mark.parametrize("change", ["pretrain.checkpoint.every=1", "pretrain.checkpoint.keep=3"])
def test_what_cannot_change_the_result_makes_nothing_stale(told: Told, change: str) -> None:
    plan = told("plan", "recipe.yaml", change)
    assert {stage["action"] for stage in plan["stages"]} == {"cached"}


def test_a_second_run_does_nothing(told: Told) -> None:
    assert {stage["action"] for stage in told("run", "recipe.yaml")["stages"]} == {"cached"}


def test_the_commands_that_look_work_on_a_real_run(finished: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(finished)
    for words in (["ls"], ["status"], ["show"], ["show", "tiny", "pretrain"], ["report"]):
        assert main(words) == 0, words
    assert "pretrain" in capsys.readouterr().out
