"""Compatibility of a published model with other tools."""

import json
import shutil
from pathlib import Path

import pytest

from cpt.models.tokenizer import load_tokenizer
from cpt.publishing.compatibility import compatibility

TEXTS = ["The heart of the matter.", "Nine kidneys, 1,234 words."]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_plain_model_is_right_everywhere(model: Path) -> None:
    assert [(each.what, each.right) for each in compatibility(model, TEXTS, load_tokenizer(model))] == [
        ("transformers", True),
        ("vLLM", True),
        ("llama.cpp", True),
    ]


def test_rows_without_a_token_are_named(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    tokens = config["vocab_size"]
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": tokens + 3}))
    found = compatibility(model, TEXTS, None)[1]
    assert not found.right
    assert f"3 rows of the embeddings have no token (ids {tokens}, {tokens + 1}, {tokens + 2})" in found.text
    assert "nothing suppresses them" in found.text
    generation = model / "generation_config.json"
    settings = json.loads(generation.read_text()) | {"suppress_tokens": list(range(tokens, tokens + 3))}
    generation.write_text(json.dumps(settings))
    assert "suppresses them in transformers" in compatibility(model, TEXTS, None)[1].text


def test_a_tokenizer_that_transformers_reads_otherwise_is_found(model: Path) -> None:
    file = model / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"tokenizer_class": "BertTokenizer"}))
    found = compatibility(model, TEXTS, load_tokenizer(model))[0]
    assert (found.what, found.right) == ("transformers", False)


def test_a_changed_vocabulary_of_the_same_size_is_a_note_for_llama_cpp(model: Path, tiny_model: Path) -> None:
    base, file = load_tokenizer(tiny_model), model / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["merges"].pop()
    file.write_text(json.dumps(data))
    found = compatibility(model, TEXTS, base)[2]
    assert not found.right
    assert "BPE pre-tokenizer was not recognized" in found.text


def test_a_tokenizer_that_cuts_text_otherwise_is_not_the_bases_for_llama_cpp(
    model: Path, tiny_model: Path
) -> None:
    base, file = load_tokenizer(tiny_model), model / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    found = compatibility(model, TEXTS, base)[2]
    assert not found.right
    assert "another normalizer than the base's" in found.text


def test_without_the_bases_tokenizer_nothing_is_claimed(model: Path) -> None:
    found = compatibility(model, TEXTS, None)[2]
    assert not found.right
    assert "not at hand" in found.text
