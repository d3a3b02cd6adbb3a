"""From a recipe to a job, with and without finished stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cpt.errors import ModelError
from cpt.estimate.devices import GPUS
from cpt.estimate.job import Job, heaviness
from cpt.estimate.model import architecture
from cpt.estimate.recipe import Planned, plan_job, training_steps
from cpt.monitor.probe_work import NEW_TOKENS
from cpt.recipe.events import Listener
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.runner import run
from cpt.recipe.store import Store
from cpt.training.distributed.environment import Environment


def planned(file: Path, *overrides: str, **more: Any) -> Planned:
    recipe = load(file, overrides, place=more.get("place"))
    step, *_ = training_steps(recipe)
    artifacts = make_plan(recipe, Store(Path("runs") / recipe.name)).artifacts
    found = plan_job(recipe, step, artifacts, **{"fetch": True} | more)
    assert found is not None
    return found


def job(file: Path, *overrides: str, **more: Any) -> Job:
    return planned(file, *overrides, **more).job


def test_a_corpus_that_is_not_made_yet_is_taken_to_be_full(recipe_file: Path) -> None:
    found = planned(recipe_file, "pretrain.micro_batch_sequences=2")
    assert found.job.sequences == ((64,),) * 4
    assert (found.job.settings.micro_batch, found.job.accumulation) == (2, 2)
    assert (found.job.settings.steps, found.job.settings.tokens) == (4, 1024)
    assert found.job.probe == (500,)
    assert "one document of 64 tokens" in found.assumptions[0]


def test_settings_reach_the_job(recipe_file: Path) -> None:
    assert job(recipe_file, "pretrain.precision=fp32").settings.dtype == torch.float32
    assert job(recipe_file, place=Environment(GPUS["h100"].hardware)).settings.dtype == torch.bfloat16
    assert job(recipe_file, place=Environment(GPUS["t4"].hardware)).settings.dtype == torch.float32
    assert job(recipe_file, "pretrain.optimizer.beta1=0.8").settings.config.optimizer.beta1 == 0.8
    assert job(recipe_file, "corpus.sequence_length=32").sequences == ((32,),) * 4
    assert job(recipe_file, "pretrain.monitor.window=100").probe == (100,) * 5
    shared = planned(recipe_file, place=Environment(processes=2))
    assert shared.job.settings.micro_batch == 2
    assert any("whole copy" in each for each in shared.assumptions)
    divided = planned(recipe_file, place=Environment(processes=2, sharded=True))
    assert divided.job.sharded
    assert any("weights are sharded" in each for each in divided.assumptions)
    once = planned(
        recipe_file,
        "pretrain.gradient_sync=last",
        "pretrain.micro_batch_sequences=1",
        place=Environment(processes=2, sharded=True),
    )
    assert once.job.settings.config.gradient_sync == "last"
    assert any("whole gradient" in each for each in once.assumptions)
    assert not any("whole gradient" in each for each in divided.assumptions)
    free = job(recipe_file, "pretrain.monitor.probe_share=null", "pretrain.monitor.weights=null")
    new_tokens = round(3 * NEW_TOKENS)
    assert free.probe_tokens == 4 * (500 + 250 + new_tokens), "before the first step, and after 1, 2 and 4"
    bound = job(recipe_file, "pretrain.monitor.weights=null")
    assert bound.probe_tokens == 2 * (500 + 250 + new_tokens), "the share pays for first and last readings"
    without = job(recipe_file, "pretrain.monitor.weights=null", "pretrain.monitor.early_end=null")
    assert without.probe_tokens == 2 * (500 + new_tokens)
    assert "compiled" in planned(recipe_file, "pretrain.compile=true").assumptions[-1]
    assert "optimizer's step" in planned(recipe_file, "pretrain.optimizer.kind=muon").assumptions[-1]


def test_float8_is_counted_as_bfloat16(recipe_file: Path) -> None:
    found = planned(recipe_file, "pretrain.precision=fp8", place=Environment(GPUS["h100"].hardware))
    assert found.job.settings.dtype == torch.bfloat16
    assert "8-bit" in found.assumptions[-1]


def test_what_trains_reaches_the_job(recipe_file: Path) -> None:
    here = planned(
        recipe_file, "pretrain.trainable={kind: lora, embeddings: new-tokens}", "pretrain.precision=bf16"
    )
    assert here.job.settings.config.trainable.kind == "lora"
    assert len(here.job.settings.new_tokens) == 30
    assert "frozen" in here.assumptions[-1]


def test_replay_rows_are_counted_over_all_phases(recipe_file: Path) -> None:
    text = recipe_file.read_text().replace(
        "heldout: 0.1", "heldout: 0.1\n      replay: [{path: texts.jsonl}]"
    )
    recipe_file.write_text(text)
    found = job(recipe_file, "pretrain.replay=0.25", "pretrain.mixture=[{until: 0.5}, {replay: 0.75}]")
    assert (found.fewest_replay_rows, found.replay_rows) == (1, 3)


def test_layers_that_an_earlier_training_adds(recipe_file: Path) -> None:
    added = "  - pretrain: {name: deeper, tokens: 1000, trainable: {kind: expansion, every: 1}}\n"
    recipe_file.write_text(recipe_file.read_text().replace("  - pretrain: {", added + "  - pretrain: {"))
    recipe = load(recipe_file)
    jobs = [plan_job(recipe, step, {}, fetch=True) for step in training_steps(recipe)]
    assert [each.job.architecture.num_hidden_layers for each in jobs if each] == [2, 4]


def test_new_tokens_of_a_model_that_is_merged_before_it_trains_again(recipe_file: Path) -> None:
    more = """\
  - merge: {models: [{from: pretrain, weight: 0.5}]}
  - pretrain: {name: again, from: merge, tokens: 1000, trainable: {rates: {new_tokens: 3}}}
"""
    recipe_file.write_text(recipe_file.read_text().replace("  - report\n", more))
    recipe = load(recipe_file)
    first, second = (plan_job(recipe, step, {}, fetch=True) for step in training_steps(recipe))
    assert first is not None
    assert second is not None
    assert second.job.architecture.vocab_size == first.job.architecture.vocab_size
    assert len(second.job.settings.new_tokens) == 30


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ("{extend: {tokens: 30}}", 384),
        ("{extend: {tokens: 30}, pad_to_multiple_of: 1}", 330),
        ("{prune: {tokens: 20}, pad_to_multiple_of: 1}", 280),
        ("{prune: {tokens: 20}, extend: {tokens: 5}, pad_to_multiple_of: 1}", 285),
        ("{train: {tokens: 270}, pad_to_multiple_of: 1}", 270),
        ("{transliterate: {tokens: 10}, pad_to_multiple_of: 1}", 310),
        ("{replace: {tokenizer: MODEL}, pad_to_multiple_of: 1}", 300),
    ],
)
def test_a_vocabulary_that_is_not_made_yet(
    recipe_file: Path, tiny_model: Path, change: str, rows: int
) -> None:
    text = recipe_file.read_text().replace("{extend: {tokens: 30}}", change.replace("MODEL", str(tiny_model)))
    recipe_file.write_text(text)
    assert job(recipe_file).architecture.vocab_size == rows


def test_what_is_not_known_of_a_vocabulary_is_said(recipe_file: Path) -> None:
    written = recipe_file.read_text()
    recipe_file.write_text(written.replace("{extend: {tokens: 30}}", "{transliterate: {}}"))
    assert any("Latin spellings" in each for each in planned(recipe_file).assumptions)


def test_finished_stages_are_read(recipe_file: Path) -> None:
    silent: Listener = lambda event: None  # noqa: E731
    from cpt.recipe.plan import Selection

    run(load(recipe_file), Path("runs"), Selection(until="vocabulary"), silent)
    found = planned(recipe_file)
    made = found.job
    assert not found.assumptions
    assert made.architecture.vocab_size % 64 == 0
    assert len(made.sequences) == 4
    assert all(sum(lengths) <= 64 and len(lengths) > 1 for lengths in made.sequences[:1])
    weights = [heaviness(lengths, made.architecture) for lengths in made.sequences]
    assert weights == sorted(weights, reverse=True)
    assert made.settings.tokens >= 1000
    again = training_steps(load(recipe_file))[0]
    assert again.name == found.step.name


def test_architecture_of_a_folder(tiny_model: Path, tmp_path: Path) -> None:
    found = architecture(str(tiny_model), fetch=False)
    assert found is not None
    assert found.hidden_size == 32
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="describes no model that can be built"):
        architecture(str(tmp_path), fetch=True)


@pytest.mark.parametrize(
    "reference", ["nobody/nothing", "wheel:nothing==1.0/base.gguf", "hub:models/nobody/nothing/base.gguf"]
)
def test_what_is_not_at_hand_is_not_fetched(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path))
    assert architecture(reference, fetch=False) is None
