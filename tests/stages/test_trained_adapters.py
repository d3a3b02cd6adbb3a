"""Adapters that the pretrain stage leaves behind, as parents of a merge: the stage's own model comes out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runs import artifact, make_corpus, model_artifact, run_stage

from cpt.stages.base import Artifact
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY
from merging.adapters import is_adapter
from merging.plan import plan
from merging.request import InputModel, MergeRequest
from merging.run import run

PLAIN = {"tokens": 1600, "batch_sequences": 4, "precision": "fp32", "monitor": {"every": 100, "tokens": 200}}


@pytest.fixture(scope="module")
def extended(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Model and corpus with twenty new tokens."""
    folder = tmp_path_factory.mktemp("extended")
    model = model_artifact("base", tiny_model, folder)
    inputs = {"model": model, "corpus": make_corpus(model, folder / "corpus")}
    run_stage(VOCABULARY, {"extend": {"tokens": 20}}, inputs, folder / "vocabulary")
    made = artifact("vocabulary", folder / "vocabulary/output", "model", "corpus")
    return dict.fromkeys(("model", "corpus"), made)


@pytest.mark.parametrize(
    "trainable",
    [
        {"variant": "lora", "rank": 4},
        {"variant": "rslora", "rank": 4, "alpha": 3, "embeddings": "new-tokens"},
        {"variant": "dora", "rank": 4, "embeddings": "all"},
        {"variant": "adalora", "rank": 2, "embeddings": "frozen"},
    ],
    ids=lambda trainable: trainable["variant"],
)
def test_the_adapter_on_its_base_is_the_stages_model(
    trainable: Mapping[str, Any], extended: dict[str, Artifact], tmp_path: Path
) -> None:
    config = PLAIN | {"trainable": {"kind": "lora"} | dict(trainable)}
    run_stage(PRETRAIN, config, extended, tmp_path)
    adapter = tmp_path / "output/training/adapter"
    assert is_adapter(adapter)
    base = InputModel("base", extended["model"].path("model"))
    request = MergeRequest(
        "task-arithmetic", (InputModel("adapter", adapter, parameters={"weight": 1.0}),), base
    )
    run(plan(request), tmp_path / "merged")
    expected = load_file(tmp_path / "output/model/model.safetensors")
    before = load_file(base.folder / "model.safetensors")
    found = load_file(tmp_path / "merged/model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-6, atol=2e-7)
    assert any(not torch.equal(found[name], before[name]) for name in found)
