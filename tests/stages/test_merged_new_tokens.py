"""New tokens through vocabulary, pretrain, merge and pretrain again: the last stage still knows them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runs import artifact, make_corpus, model_artifact, run_stage

from cpt.models.token_ids import read_new_tokens
from cpt.stages.base import Artifact
from cpt.stages.merge.stage import STAGE as MERGE
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY

NEW = tuple(range(300, 320))
PLAIN = {"tokens": 600, "batch_sequences": 4, "checkpoint": {"every": 2}, "precision": "fp32"}


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The base, and the corpus and the model with twenty new tokens, trained on."""
    folder = tmp_path_factory.mktemp("made")
    base = model_artifact("base", tiny_model, folder)
    inputs = {"model": base, "corpus": make_corpus(base, folder / "corpus")}
    run_stage(VOCABULARY, {"extend": {"tokens": 20}}, inputs, folder / "vocabulary")
    extended = artifact("vocabulary", folder / "vocabulary/output", "model", "corpus")
    kept = PLAIN | {"tokens": 1100, "checkpoint": {"every": 2, "keep_every": 2}}
    run_stage(PRETRAIN, kept, {"model": extended, "corpus": extended}, folder / "pretrain")
    trained = artifact("pretrain", folder / "pretrain/output", "model", "training")
    return {"base": base, "vocabulary": extended, "pretrain": trained}


@pytest.fixture(scope="module", params=["the base", "the extended base", "an average"])
def merged(request: pytest.FixtureRequest, made, tmp_path_factory) -> Artifact:
    folder = tmp_path_factory.mktemp("merge")
    settings: dict[str, Any] = {"models": [{"from": "pretrain", "weight": 0.5}]}
    inputs = {"base": made["base"], "model:0": made["pretrain"]}
    if request.param == "the extended base":
        inputs["base"] = made["vocabulary"]
    if request.param == "an average":
        settings = {"average": {"of": "pretrain", "kind": "soup"}}
        inputs = {"training": made["pretrain"]}
    metrics = run_stage(MERGE, settings, inputs, folder)
    assert metrics["new_tokens"] == len(NEW)
    return artifact("merge", folder / "output", "model")


def test_rows_of_new_tokens_train_at_a_rate_of_their_own_after_a_merge(merged, made, tmp_path: Path) -> None:
    assert read_new_tokens(merged.path("model")) == NEW
    trainable = {"embeddings_first": 0.99, "rates": {"new_tokens": 3}}
    after = trained(PLAIN | {"trainable": trainable}, merged, made, tmp_path)
    assert moved(merged, after) == list(NEW)


def test_an_adapter_trains_the_rows_of_new_tokens_after_a_merge(merged, made, tmp_path: Path) -> None:
    after = trained(PLAIN | {"trainable": {"kind": "lora", "rank": 2}}, merged, made, tmp_path)
    assert moved(merged, after) == list(NEW)


def trained(config: dict[str, Any], start: Artifact, made: dict[str, Artifact], folder: Path) -> Path:
    inputs = {"model": start, "corpus": made["vocabulary"]}
    assert PRETRAIN.check(PRETRAIN.Config.model_validate(config), inputs) == []
    run_stage(PRETRAIN, config, inputs, folder)
    assert read_new_tokens(folder / "output/model") == NEW
    return folder / "output/model"


def moved(before: Artifact, after: Path) -> list[int]:
    """Rows of the embedding that training changed."""
    name = "model.embed_tokens.weight"
    old, new = (load_file(each / "model.safetensors")[name] for each in (before.path("model"), after))
    rows: torch.Tensor = (old != new).any(1)
    return rows.nonzero().flatten().tolist()
