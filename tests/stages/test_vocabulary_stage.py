"""The vocabulary stage on a tiny model and a real corpus artifact."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from stage_runs import make_corpus, model_artifact, run_stage
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.corpus import read_documents, read_index
from cpt.errors import StageFailed
from cpt.stages.base import Artifact
from cpt.stages.vocabulary import STAGE
from tokenizer_tools.extend import extend_tokenizer

CONFIG = {"extend": {"tokens": 30}}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_corpus(base, folder)}


def test_model_and_corpus_come_back_in_the_new_vocabulary(inputs, tmp_path: Path) -> None:
    metrics = run_stage(STAGE, CONFIG | {"pad_to_multiple_of": 128}, inputs, tmp_path)
    folder = tmp_path / "output" / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert len(model.get_input_embeddings().weight) == model.config.vocab_size == metrics["rows"] == 384
    assert len(tokenizer) == metrics["after"] == metrics["before"] + 30
    assert metrics["added"] == metrics["guards"]["reachable"] == 30
    assert "Carcinoma" in metrics["longest_tokens"]
    for token in metrics["longest_tokens"] + metrics["most_frequent_tokens"]:
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
    old, new = (
        read_index(corpus) for corpus in (inputs["corpus"].path("corpus"), tmp_path / "output/corpus")
    )
    assert new.tokenizer != old.tokenizer
    for source, split in (("domain", "train"), ("domain", "heldout"), ("general", "heldout")):
        was, now = (index.sources[source].splits[split] for index in (old, new))
        assert (now.documents, now.bytes) == (was.documents, was.bytes)
        assert now.tokens <= was.tokens
    for source, prefix in (("domain", ""), ("general", "general_")):
        for index, when in ((old, "before"), (new, "after")):
            measured = metrics[f"{prefix}bytes_per_token_{when}"]
            assert measured == pytest.approx(index.bytes_per_token(source, "heldout"))
    assert metrics["bytes_per_token_after"] > 1.2 * metrics["bytes_per_token_before"]
    assert json.loads(json.dumps(metrics)) == metrics


def test_tokens_are_learnt_from_training_text_alone(inputs, tmp_path: Path) -> None:
    run_stage(STAGE, CONFIG, inputs, tmp_path)
    corpus = inputs["corpus"].path("corpus")
    train = [document.text for document in read_documents(corpus, "domain", "train")]
    extend_tokenizer(inputs["model"].path("model"), train, tmp_path / "expected", tokens=30)
    made, expected = (
        folder / "tokenizer.json" for folder in (tmp_path / "output/model", tmp_path / "expected")
    )
    assert made.read_bytes() == expected.read_bytes()


def test_general_text_is_optional(tiny_model: Path, tmp_path: Path) -> None:
    base = model_artifact("base", tiny_model, tmp_path)
    inputs = {"model": base, "corpus": make_corpus(base, tmp_path / "corpus", general=False)}
    metrics = run_stage(STAGE, CONFIG, inputs, tmp_path / "run")
    assert "general_bytes_per_token_after" not in metrics


def test_every_setting_counts(inputs, tmp_path: Path) -> None:
    more = run_stage(STAGE, {"extend": {"tokens": 35}, "pad_to_multiple_of": 1}, inputs, tmp_path / "a")
    assert (more["added"], more["rows"]) == (35, more["before"] + 35)
    with pytest.raises(StageFailed, match=r"yields \d+ new tokens, 30 were asked for"):
        run_stage(STAGE, {"extend": {"tokens": 30, "min_frequency": 100_000}}, inputs, tmp_path / "b")
    with pytest.raises(ValidationError, match="choose one of: subtoken-mean"):
        STAGE.Config.model_validate(CONFIG | {"embeddings": {"method": "guess"}})


def test_a_tokenizer_that_cannot_be_extended_is_found_before_the_run(
    inputs, tiny_model: Path, tmp_path: Path
) -> None:
    config = STAGE.Config.model_validate(CONFIG)
    assert STAGE.check(config, {}) == []
    assert STAGE.check(config, inputs) == []
    data = json.loads((tiny_model / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**data, "pre_tokenizer": None}))
    [problem] = STAGE.check(config, {"model": model_artifact("other", tmp_path, tmp_path / "artifacts")})
    assert problem.key == "extend"
    assert "no pre-tokenizer" in problem.message
