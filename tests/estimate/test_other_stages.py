"""Stages that train no model: all are listed, with what they read or sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import T5Config

from cpt.cli import main
from cpt.corpus.self_generated import SAMPLED_COST
from cpt.estimate import other_stages
from cpt.estimate.devices import gpu
from cpt.estimate.model import architecture
from cpt.estimate.other_stages import SAMPLED_FLOPS
from cpt.estimate.simulated_model import build
from cpt.stages.vocabulary.config import VocabularyConfig

MORE = """\
  - merge:
      models: [{from: pretrain, weight: auto}]
      search: {points: 5, tokens: 100}
  - evaluate:
      heldout_tokens: 300
      tasks: [{name: rest, continuation_of: domain, items: 5}]
      suites: ["general:quick"]
  - report
"""


@pytest.fixture
def whole(recipe_file: Path) -> Path:
    text = recipe_file.read_text().replace("  - report\n", MORE)
    text = text.replace(
        "heldout: 0.1", "heldout: 0.1\n      replay: {self_generated: {tokens: 900, length: 60}}"
    )
    distilled = "{extend: {tokens: 30}, embeddings: {method: token-distillation, snippet_tokens: 10}}"
    recipe_file.write_text(text.replace("{extend: {tokens: 30}}", distilled))
    return recipe_file


def found(capsys: Any, *words: str) -> Any:
    capsys.readouterr()
    assert main(["estimate", "recipe.yaml", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_stage_is_listed_with_its_tokens(whole: Path, capsys: Any) -> None:
    others = {each["stage"]: each for each in found(capsys)["other_stages"]}
    assert list(others) == ["corpus", "vocabulary", "merge", "evaluate"]
    assert others["corpus"]["sampled"] == 900
    assert others["vocabulary"]["read"] == 30 * 4 * 10 * (1 + 3)
    assert others["merge"]["read"] == (5 + 1) * 100 * 2
    assert others["evaluate"]["read"] == 2 * 2 * 300
    assert others["evaluate"]["uncounted"] == "task rest, suite general:quick"
    assert all(each["seconds"] is None for each in others.values())  # the machine's speed is not known


def test_reading_takes_a_third_of_training_and_sampling_has_no_time_on_a_gpu(
    whole: Path, capsys: Any
) -> None:
    told = found(capsys, "--gpu", "h100", "--gpus", "2", "--price", "3600")
    (training,), others = told["stages"], {each["stage"]: each for each in told["other_stages"]}
    rate = training["time"]["tokens_per_second"] / 2  # on one of them
    merge = others["merge"]
    assert merge["seconds"] == pytest.approx(merge["read"] / 3 / rate)
    assert merge["cost"] == pytest.approx(merge["seconds"] * 2)  # both are paid for
    assert others["corpus"]["seconds"] is None
    main(["estimate", "recipe.yaml", "--gpu", "h100"])
    shown = capsys.readouterr().out
    for words in ("samples replay text", "token-distillation of 30 tokens", "measures 5 merges", "not known"):
        assert words in shown


def test_sampling_has_a_time_on_this_machine(whole: Path, capsys: Any) -> None:
    told = found(capsys, "--calibrate")
    (training,), others = told["stages"], {each["stage"]: each for each in told["other_stages"]}
    expected = SAMPLED_COST * 900 / training["time"]["tokens_per_second"]
    assert others["corpus"]["seconds"] == pytest.approx(expected)


def test_a_method_of_one_pass_and_models_of_other_sizes(whole: Path, tiny_model: Path, capsys: Any) -> None:
    """Contextual distillation goes forward once; a model that is no stage may have any size."""
    method = "vocabulary.embeddings.method=contextual-distillation"
    against = f"evaluate.against=[base, {tiny_model}, pretrain]"
    others = {each["stage"]: each for each in found(capsys, method, against)["other_stages"]}
    assert others["vocabulary"]["read"] == 30 * 4 * 10
    assert others["evaluate"]["read"] == 3 * 2 * 300
    assert others["evaluate"]["uncounted"].endswith(f"reading by {tiny_model}")


def test_distillation_of_another_vocabulary_is_named_without_its_tokens() -> None:
    settings = {"replace": {"tokenizer": "org/other"}, "embeddings": {"method": "token-distillation"}}
    (work,) = other_stages._distillation("vocabulary", VocabularyConfig.model_validate(settings))
    assert (work.read, work.uncounted) == (0, "its snippets")
    plain = VocabularyConfig.model_validate({"replace": {"tokenizer": "org/other"}})
    assert list(other_stages._distillation("vocabulary", plain)) == []


def test_a_plan_has_the_time_of_sampling_by_weights_and_cores(
    whole: Path, tiny_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned() -> dict[str, Any]:
        capsys.readouterr()
        assert main(["plan", "recipe.yaml", "--json"]) == 0
        return {each["stage"]: each for each in json.loads(capsys.readouterr().out)["stages"]}

    model = build(architecture(str(tiny_model), fetch=False))
    weights = sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(other_stages, "process_count", lambda _: 4)
    stages = planned()
    assert stages["corpus"]["sampling_seconds"] == pytest.approx(900 * 2 * weights / (4 * SAMPLED_FLOPS))
    assert stages["pretrain"]["sampling_seconds"] is None
    assert main(["plan", "recipe.yaml"]) == 0
    assert "samples replay text, roughly 0.0 s" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(other_stages, "this_machine", lambda: gpu("h100"))
        assert planned()["corpus"]["sampling_seconds"] is None
    with monkeypatch.context() as patch:  # `cpt estimate` reports what is wrong with it
        patch.setattr(other_stages, "architecture", lambda *_, **__: T5Config())
        assert planned()["corpus"]["sampling_seconds"] is None
