"""Tokenizers in their authors' formats become fast tokenizers that give the same ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import regex
from raw_tokenizers import (
    ORDINARY,
    adversarial,
    by_rank,
    byte_ranks,
    write_sentence_piece,
    write_tekken,
    write_tiktoken,
    write_word_piece,
)
from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.references import tiktoken as converter
from cpt.references.tokenizer_conversion import convert

PATTERN = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def load(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tokenizer_config.json").read_text())


# SentencePiece

LIKE_LLAMA = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}
LIKE_T5 = {"model_type": "unigram", "bos_id": -1, "pad_id": 0, "eos_id": 1, "unk_id": 2}


@pytest.mark.parametrize(
    "settings",
    [
        LIKE_LLAMA,
        {**LIKE_LLAMA, "add_dummy_prefix": False, "user_defined_symbols": ["[REF]", "  ", "\n", "\n\n"]},
        {**LIKE_LLAMA, "user_defined_symbols": ["[REF]", *"0123456789"], "split_digits": True},
        {**LIKE_LLAMA, "split_by_whitespace": False},
        {"model_type": "bpe"},
        {"model_type": "unigram"},
        LIKE_T5,
        {"model_type": "unigram", "byte_fallback": True, "user_defined_symbols": ["[REF]"]},
        {"model_type": "unigram", "add_dummy_prefix": False, "normalization_rule_name": "nmt_nfkc_cf"},
        {"model_type": "unigram", "remove_extra_whitespaces": False, "split_by_whitespace": False},
    ],
    ids=str,
)
def test_a_sentence_piece_model_gives_the_ids_of_sentence_piece(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    from sentencepiece import SentencePieceProcessor

    path = write_sentence_piece(tmp_path / "any.name", **settings)
    reference = SentencePieceProcessor(model_file=str(path))
    fast = load(convert(path, tmp_path / "fast"))
    vocabulary = fast.get_vocab()
    assert [vocabulary[reference.id_to_piece(i)] for i in range(len(reference))] == [*range(len(reference))]
    for text in [*ORDINARY, *adversarial()]:
        expected, found = reference.encode(text), ids(fast, text)
        if settings["model_type"] == "unigram":  # of paths with equal scores either takes its own
            assert sorted(found) == sorted(expected), text
        else:
            assert found == expected, text
        if reference.unk_id() not in expected:
            assert fast.decode(found) == reference.decode(expected)


def test_a_sentence_piece_models_roles_and_frame(tmp_path: Path) -> None:
    llama = convert(write_sentence_piece(tmp_path / "llama", **LIKE_LLAMA), tmp_path / "a")
    assert {key: value for key, value in config(llama).items() if key.endswith("_token")} == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    assert Tokenizer.from_file(str(llama / "tokenizer.json")).encode("heart").tokens[0] == "<s>"
    t5 = convert(write_sentence_piece(tmp_path / "t5", **LIKE_T5), tmp_path / "b")
    assert config(t5)["pad_token"] == "<pad>"
    assert "bos_token" not in config(t5)
    assert Tokenizer.from_file(str(t5 / "tokenizer.json")).encode("heart").tokens[-1] == "</s>"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "word", "vocab_size": 40}, "words or characters"),
        ({"treat_whitespace_as_suffix": True}, "ends of words"),
    ],
)
def test_a_sentence_piece_model_without_a_fast_counterpart_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        convert(write_sentence_piece(tmp_path / "m", **settings), tmp_path / "fast")


# Byte ranks


@pytest.fixture(scope="module")
def tokens() -> list[bytes]:
    return byte_ranks(420)


def assert_by_rank(fast: Tokenizer, tokens: list[bytes], first_id: int) -> None:
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for text in [*ORDINARY, *adversarial()]:
        words = regex.findall(PATTERN, text)
        expected = [rank for word in words for rank in by_rank(word.encode(), ranks)]
        assert ids(fast, text) == [first_id + rank for rank in expected]
        assert fast.decode(ids(fast, text)) == text


def test_tekken_gives_the_ids_of_its_ranks(tmp_path: Path, tokens: list[bytes]) -> None:
    folder = convert(write_tekken(tmp_path / "any.name", tokens, PATTERN), tmp_path / "fast")
    fast = load(folder)
    assert fast.get_vocab_size() == 30 + 400
    assert_by_rank(fast, tokens[:400], first_id=30)
    assert [fast.id_to_token(i) for i in (0, 1, 2, 11, 20, 29)] == [
        "<unk>", "<s>", "</s>", "<pad>", "<SPECIAL_20>", "<SPECIAL_29>"
    ]  # fmt: skip
    assert config(folder)["pad_token"] == "<pad>"
    assert fast.encode("heart").tokens[0] == "<s>"


def test_tekkens_own_special_tokens_are_taken_by_rank(tmp_path: Path, tokens: list[bytes]) -> None:
    listed = [{"rank": 1, "token_str": "<s>", "is_control": True}, {"rank": 0, "token_str": "<begin>"}]
    path = write_tekken(tmp_path / "tekken.json", tokens, PATTERN, special_tokens=listed)
    folder = convert(path, tmp_path / "fast")
    assert [load(folder).id_to_token(i) for i in range(3)] == ["<begin>", "<s>", "<SPECIAL_2>"]
    assert "eos_token" not in config(folder)


def test_tiktoken_gives_the_ids_of_its_ranks(
    tmp_path: Path, tokens: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
    family = converter._Family(PATTERN, special, "<|pad|>")
    monkeypatch.setattr(converter, "_FAMILIES", {len(tokens): lambda: family})
    folder = convert(write_tiktoken(tmp_path / "tokenizer.model", tokens), tmp_path / "fast")
    assert_by_rank(load(folder), tokens, first_id=0)
    assert [load(folder).token_to_id(content) for content in special] == [420, 421, 422]
    assert config(folder)["pad_token"] == "<|pad|>"


def test_tiktoken_of_an_unknown_family_or_with_a_damaged_line_is_refused(
    tmp_path: Path, tokens: list[bytes]
) -> None:
    path = write_tiktoken(tmp_path / "tokenizer.model", tokens)
    with pytest.raises(DataError, match=r"has 420 tokens(.|\n)*128,000 and 200,000"):
        convert(path, tmp_path / "fast")
    path.write_text(path.read_text() + "???? x\n")
    with pytest.raises(DataError, match=r"tokenizer\.model:421"):
        convert(path, tmp_path / "fast")


# WordPiece


@pytest.mark.parametrize(("more", "lower_case"), [((), True), (("Über",), False)])
def test_a_word_piece_vocabulary(tmp_path: Path, more: tuple[str, ...], lower_case: bool) -> None:
    from tokenizers.implementations import BertWordPieceTokenizer

    path = write_word_piece(tmp_path / "vocab.txt", *more)
    folder = convert(path, tmp_path / "fast")
    fast, reference = load(folder), BertWordPieceTokenizer(str(path), lowercase=lower_case)
    for text in [*ORDINARY, *adversarial(), "Hearts, the Über heart心心."]:
        assert fast.encode(text).ids == reference.encode(text).ids
    assert ids(fast, "Über")[0] == fast.token_to_id("uber" if lower_case else "Über")
    assert {key for key in config(folder) if key.endswith("_token")} == {
        "pad_token", "unk_token", "cls_token", "sep_token", "mask_token"
    }  # fmt: skip


# Folders


def test_transformers_loads_the_converted_tokenizer_as_it_is(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = write_sentence_piece(tmp_path / "m", **LIKE_LLAMA)
    folder = convert(path, tmp_path / "fast")
    loaded = AutoTokenizer.from_pretrained(folder)
    for text in ORDINARY:
        assert loaded.encode(text, add_special_tokens=False) == ids(load(folder), text)
    assert (loaded.bos_token, loaded.eos_token, loaded.unk_token) == ("<s>", "</s>", "<unk>")


def raw_folder(folder: Path, settings: dict[str, Any], name: str, **stated: Any) -> Path:
    folder.mkdir()
    write_sentence_piece(folder / name, **settings)
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    return folder


def test_llamas_folder_is_converted_from_its_file_with_the_roles_it_states(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    folder = raw_folder(
        tmp_path / "llama",
        LIKE_LLAMA,
        "tokenizer.model",
        tokenizer_class="LlamaTokenizer",
        pad_token={"content": "</s>"},
        mask_token="<none>",
    )
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    fast = convert(folder, tmp_path / "fast")
    reference = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert ids(load(fast), "  x") == reference.encode("  x")
    assert config(fast)["pad_token"] == "</s>"
    assert "mask_token" not in config(fast)
    assert (fast / "chat_template.jinja").read_text() == "{{ messages }}"


def test_a_class_that_moves_ids_is_converted_by_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = raw_folder(
        tmp_path / "xlmr",
        {"model_type": "unigram"},
        "sentencepiece.bpe.model",
        tokenizer_class="XLMRobertaTokenizer",
    )
    fast = convert(folder, tmp_path / "fast")
    assert [load(fast).id_to_token(i) for i in range(4)] == ["<s>", "<pad>", "</s>", "<unk>"]
    slow, loaded = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(fast)
    for text in ORDINARY:
        assert loaded.encode(text) == slow.encode(text)


def test_a_fast_folder_is_copied(tmp_path: Path) -> None:
    first = convert(write_word_piece(tmp_path / "vocab.txt"), tmp_path / "a")
    second = convert(first, tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (second / name).read_bytes() == (first / name).read_bytes()


def test_a_tokenizer_json_by_itself_has_the_roles_that_its_tokens_names_say(tmp_path: Path) -> None:
    first = convert(write_word_piece(tmp_path / "vocab.txt"), tmp_path / "a")
    second = convert(first / "tokenizer.json", tmp_path / "b")
    assert config(second) == config(first)
    assert load(second).to_str() == load(first).to_str()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a tokenizer of a known format"),
        (b"\x00\x01 nothing", "not a tokenizer of a known format"),
        (b'{"a": 1}', "not a tokenizer of a known format"),
        (b'{"a": ', "not valid JSON"),
        (b'{"model": {"type": "None"}}', "cannot be read"),
        (b'{"config": {}, "vocab": []}', "'default_num_special_tokens' is missing"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=says):
        convert(tmp_path / "file", tmp_path / "fast")
    assert not (tmp_path / "fast").exists()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no tokenizer of a known format"):
        convert(tmp_path / "empty", tmp_path / "fast")
    (tmp_path / "empty" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(DataError, match="lacks its vocabulary"):
        convert(tmp_path / "empty", tmp_path / "fast")
    (tmp_path / "empty" / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    (tmp_path / "empty" / "spiece.model").write_bytes(b"damaged")
    with pytest.raises(DataError, match="transformers cannot convert"):
        convert(tmp_path / "empty", tmp_path / "fast")
