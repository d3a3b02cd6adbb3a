"""Models: local folders, the hub, GGUF files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt import references
from cpt.errors import ModelError, RecipeError, ReferenceUnavailable
from cpt.references.syntax import LocalPath

HEX = "ab" * 32


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Models


def model_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_complete_model_folder_is_used_in_place(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    assert references.resolve_model(str(folder)) == folder
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index: dict[str, Any] = {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert references.resolve_model("m") == Path("m")
    index["weight_map"]["b"] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ReferenceUnavailable, match=r"model-00002-of-00002\.safetensors not found"):
        references.resolve_model("m")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], r"pickles only \(pytorch_model.bin\)"),
        (["config.json", "model.safetensors"], "no tokenizer.json"),
        (["notes.txt"], "not a complete model folder: config.json, tokenizer.json, model.safetensors"),
    ],
)
def test_an_incomplete_model_folder_says_what_is_missing(tmp_path: Path, names: list[str], says: str) -> None:
    folder = model_folder(tmp_path / "m", *names)
    with pytest.raises(ReferenceUnavailable, match=says):
        references.resolve_model(str(folder))


def test_a_data_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for text in ("a.txt", "python:pydoc_data.topics"):
        with pytest.raises(ReferenceUnavailable, match="is not a model"):
            references.resolve_model(text)


# The hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached_repository(tmp_path: Path, model: Path, kind: str = "models") -> Path:
    """`org/name` in the hub's cache, as its client would have left it, with a model and a data file."""
    repository = tmp_path / "hub" / f"{kind}--org--name"
    folder = shutil.copytree(model, repository / "snapshots" / COMMIT)
    (folder / "data.jsonl").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_cached_hub_model_needs_no_network(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cached_repository(tmp_path, tiny_model)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked the hub"))
    assert references.fingerprint("org/name") == COMMIT
    assert references.fingerprint(f"org/name@{COMMIT}") == COMMIT
    assert references.resolve_model("org/name") == folder
    assert references.resolve_model(f"org/name@{COMMIT}") == folder


def test_a_cached_hub_file_needs_no_network(tiny_model: Path, tmp_path: Path) -> None:
    folder = cached_repository(tmp_path, tiny_model, "datasets")
    assert references.resolve_file("hub:datasets/org/name/data.jsonl") == folder / "data.jsonl"
    assert references.fingerprint("hub:datasets/org/name/data.jsonl") == f"{COMMIT}:data.jsonl"
    with pytest.raises(ReferenceUnavailable, match="expected SHA-256"):
        references.resolve_file(f"hub:datasets/org/name/data.jsonl#sha256={HEX}")


def test_an_unreachable_hub_says_what_was_tried_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", unreachable)
    for use, text in (
        (references.fingerprint, "org/name@v2"),
        (references.resolve_model, "org/name@v2"),
        (references.resolve_model, f"org/name@{COMMIT}"),
        (references.resolve_file, "hub:datasets/org/name/a.jsonl@v2"),
        (references.resolve_file, f"hub:datasets/org/name/a.jsonl@{COMMIT}"),
    ):
        with pytest.raises(ReferenceUnavailable) as caught:
            use(text)
        assert "org/name@" in caught.value.message
        assert "name resolution failed" in caught.value.message
        assert "HF_HOME" in str(caught.value.hint)


# GGUF


def write_gguf(path: Path, pre: str, without: str = "") -> np.ndarray:
    """Write a Llama of one layer with a byte-level vocabulary that has the merge of two digits.

    Args:
        without: name of a tensor that is left out.

    Returns:
        The embedding.
    """
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "12"]
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {
        "token_embd": (len(tokens), 32),
        "output_norm": (32,),
        "blk.0.attn_norm": (32,),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (16, 32),
        "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_norm": (32,),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    values = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in values.items():
        if name == without:
            continue
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values["token_embd"]


def test_a_gguf_file_becomes_a_safetensors_folder_once(
    tmp_path: Path, cache: Path, heard: Any, capfd: Any
) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embedding = write_gguf(tmp_path / "tiny.gguf", "smollm")
    folder = references.resolve_model("tiny.gguf", heard)
    assert "it/s" not in capfd.readouterr().err, "progress bars are silenced"
    assert references.resolve_model(str(tmp_path / "tiny.gguf"), heard) == folder
    assert heard.messages == ["converting tiny.gguf to safetensors (once)"]
    assert folder.is_relative_to(cache)
    weights = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], embedding)
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 64
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.glob("*.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 64
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model(**tokenizer("x 12", return_tensors="pt")).logits.isfinite().all()


def test_a_gguf_file_without_a_tensor_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", "smollm", without="blk.0.ffn_up")
    with pytest.raises(ModelError, match=r"tiny\.gguf .* missing from the files: model.*up_proj") as caught:
        references.resolve_model("tiny.gguf")
    assert caught.value.exit_code == 2
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize(("pre", "expected"), [("smollm", ["1", "2"]), ("gpt-2", ["12"])])
def test_numbers_are_cut_as_the_files_pre_tokenizer_says(
    tmp_path: Path, pre: str, expected: list[str]
) -> None:
    from transformers import AutoTokenizer

    write_gguf(tmp_path / "tiny.gguf", pre)
    tokenizer = AutoTokenizer.from_pretrained(references.resolve_model("tiny.gguf"))
    assert tokenizer.tokenize("12") == expected


def test_a_gguf_fingerprint_covers_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    before = references.fingerprint("a.gguf")
    assert before.startswith(sha256(b"GGUF"))
    monkeypatch.setattr("cpt.references.gguf.CONVERTER", 99)
    assert references.fingerprint("a.gguf") != before


@pytest.mark.parametrize(
    ("content", "says"), [(b"no", "is not a GGUF file"), (b"GGUF" + b"\0" * 40, "cannot convert")]
)
def test_a_broken_gguf_file_is_explained_and_leaves_nothing(
    tmp_path: Path, cache: Path, content: bytes, says: str
) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ReferenceUnavailable, match=says):
        references.resolve_model("a.gguf")
    assert [path for path in (cache / "gguf").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.real
def test_the_quickstarts_model_and_ontology(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    for name in ("CPT_CACHE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    gguf, obo = list(references.PINNED_SHA256)[:2]
    tokenizer = AutoTokenizer.from_pretrained(references.resolve_model(gguf))
    assert tokenizer("Hello world! 123").input_ids == [19556, 905, 17, 216, 33, 34, 35]
    assert references.resolve_file(obo).stat().st_size == 10_021_952


def test_a_run_stands_for_its_newest_model(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `run:NAME` and by its folder; the text of a run without a model says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPT_RUNS", raising=False)
    made = tmp_path / "runs" / "medical" / "pretrain-0123456789ab"
    made.mkdir(parents=True)
    for state, words in (("running", "names a run that is running"), ("finished", "a run without a model")):
        (made.parent / "run.json").write_text(json.dumps({"state": state}))
        with pytest.raises(RecipeError, match=words):
            references.parse("run:medical")
    with pytest.raises(RecipeError, match="names no run"):
        references.parse("run:legal")
    with pytest.raises(RecipeError, match="unsafe path"):
        references.parse("run:../medical")
    shutil.copytree(tiny_model, made / "model")
    (made.parent / "model").symlink_to("pretrain-0123456789ab/model")
    expected = (made / "model").resolve()
    for reference in ("run:medical", "runs/medical", str(tmp_path / "runs" / "medical")):
        assert references.parse(reference).location == LocalPath(expected)
        assert references.resolve_model(reference) == expected
        assert references.fingerprint(reference) == references.fingerprint(str(expected))
    elsewhere = tmp_path / "recipes"
    elsewhere.mkdir()
    assert references.locate("run:medical", elsewhere) == str(expected)
    monkeypatch.setenv("CPT_RUNS", str(tmp_path / "others"))
    with pytest.raises(RecipeError, match="names no run"):
        references.parse("run:medical")
