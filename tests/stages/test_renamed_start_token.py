"""A tokenizer that spells its start token otherwise: both models start documents with their own."""

import json
from pathlib import Path

import pytest
from stage_runs import artifact, make_corpus, model_artifact, run_stage
from tiny import write_tiny_model

from cpt.corpus import read_index
from cpt.corpus.texts import heldout_texts, start_token_of
from cpt.models.bits_per_byte import score, tokenise_text
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer
from cpt.stages.base import Artifact
from cpt.stages.evaluate.stage import STAGE as EVALUATE
from cpt.stages.merge.stage import STAGE as MERGE
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY

TASK = {"name": "go-on", "continuation_of": "domain", "items": 4}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The base, and the base with a tokenizer whose documents start with another token."""
    folder = tmp_path_factory.mktemp("artifacts")
    other = write_tiny_model(folder / "other", vocabulary=280)
    for file in (*other.glob("tokenizer*.json"), *other.glob("special_tokens_map.json")):
        text = file.read_text().replace('"<s>"', '"[BEGIN]"')
        file.write_text(text.replace('"</s>"', '"[END]"'))
    base = model_artifact("base", tiny_model, folder)
    before = {"model": base, "corpus": make_corpus(base, folder)}
    run_stage(VOCABULARY, {"replace": {"tokenizer": str(other)}}, before, folder / "replaced")
    made = folder / "replaced/output"
    after = model_artifact("after", made / "model", folder)
    return {"base": base, "after": after, "corpus": artifact("changed", made, "corpus")}


def test_every_model_starts_documents_with_its_own_token(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    corpus = inputs["corpus"].path("corpus")
    assert read_index(corpus).start_token == "[BEGIN]"
    roles = {"before": inputs["base"], "after": inputs["after"], "corpus": inputs["corpus"]}
    run_stage(EVALUATE, {"precision": "fp32", "tasks": [TASK]}, roles, tmp_path)
    scores = json.loads((tmp_path / "output/scores/scores.json").read_text())
    texts = heldout_texts(corpus, "domain")
    for role, start in (("before", "<s>"), ("after", "[BEGIN]")):
        folder = roles[role].path("model")
        assert start_token_of(corpus, folder) == start
        tokenised = tokenise_text(load_tokenizer(folder), texts, 1024, start)
        alone = score(PackedLanguageModel(load_model(folder)), tokenised).bits_per_byte
        assert scores["bits_per_byte"]["domain"][role]["value"] == pytest.approx(alone, rel=1e-4)


def test_merges_of_both_are_measured(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    roles = {"base": inputs["base"], "model:0": inputs["after"], "corpus": inputs["corpus"]}
    search = {"points": 2, "precision": "fp32", "tokens": 2_000}
    found = run_stage(MERGE, {"models": [{"from": "after"}], "search": search}, roles, tmp_path)
    assert len(found["search_points"]) == 2
