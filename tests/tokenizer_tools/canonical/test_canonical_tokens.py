"""Canonical sequences, against the tokens of all short texts."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from few_characters import KINDS, Toy
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cpt.errors import DataError
from tokenizer_tools.canonical.tokens import TokenState, canonical_tokens

LENGTH = 5


@cache
def _toy(kind: str) -> Toy:
    return KINDS[kind](Path(mkdtemp()))


@cache
def _begun(kind: str) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """The sequences of all texts, and all beginnings of them."""
    whole = set(_toy(kind).encoded(LENGTH).values())
    return whole, {ids[:end] for ids in whole for end in range(len(ids) + 1)}


def _after(toy: Toy, ids: tuple[int, ...]) -> TokenState:
    state = toy.tokens.start
    for token in ids:
        state = toy.tokens.after(state, token)
    return state


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_may_follow_are_those_of_some_text(kind: str) -> None:
    toy = _toy(kind)
    tokens = toy.tokens
    whole, begun = _begun(kind)
    checked = 0

    def characters(data: bytes) -> int:
        return len(data[len(tokens.lead) :].decode(errors="ignore"))

    for ids in sorted(begun):
        data = b"".join(tokens.surfaces[token] for token in ids)
        if len(data) < len(tokens.lead) or characters(data) > 2:
            continue
        state = _after(toy, ids)
        allowed = tokens.allowed(state)
        for token, surface in enumerate(tokens.surfaces):
            long = characters(data + surface) > LENGTH - 2
            if (*ids, token) in begun or not long:
                assert allowed[token] == ((*ids, token) in begun), (data, surface)
                checked += 1
        if data != tokens.lead or tokens.bpe.lead != "always":  # else the text is empty and has no token
            assert tokens.may_end(state) == (ids in whole), data
    assert checked > 150


def test_a_character_is_left_incomplete_only_if_tokens_complete_it() -> None:
    tokens = _toy("GPT-2").tokens
    a, first = (tokens.surfaces.index(each) for each in (b"a", b"\xc3"))
    assert not tokens.allowed(_after(_toy("GPT-2"), (a,)))[tokens.surfaces.index(b"\xa9")]
    assert tokens.allowed(_after(_toy("GPT-2"), ()))[first]  # "÷" is spelt by its bytes


def _changed(folder: Path, **parts: object) -> Path:
    tokenizer = Tokenizer.from_file(str(_toy("GPT-2").folder / "tokenizer.json"))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    return folder


def test_tokenizers_that_are_not_followed_are_refused(tmp_path: Path) -> None:
    level = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(DataError, match=r"pre-tokenizer has a step .*ByteLevel"):
        canonical_tokens(_changed(tmp_path / "space", pre_tokenizer=level))
    steps = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(False)])
    with pytest.raises(DataError, match=r"pre-tokenizer has a step .*Punctuation"):
        canonical_tokens(_changed(tmp_path / "punctuation", pre_tokenizer=steps))
    with pytest.raises(DataError, match=r"normalizer has a step .*Lowercase"):
        canonical_tokens(_changed(tmp_path / "lower", normalizer=normalizers.Lowercase()))
    tokenizer = Tokenizer.from_file(str(_toy("GPT-2").folder / "tokenizer.json"))
    tokenizer.model.dropout = 0.1
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(tmp_path / "drops")
    with pytest.raises(DataError, match="at random"):
        canonical_tokens(tmp_path / "drops")


def test_text_is_composed_first(tmp_path: Path) -> None:
    tokens = canonical_tokens(_changed(tmp_path, normalizer=normalizers.NFC()))
    assert tokens.bytes_of("e\u0301") == "é".encode()


def test_space_before_a_text() -> None:
    assert _toy("Llama 2").tokens.bytes_of(" a") == b" a"  # becomes "▁▁a"
    assert _toy("Metaspace").tokens.bytes_of(" a") == b"a"  # becomes "▁a"
    assert [_toy(kind).tokens.lead for kind in ("Llama 2", "Metaspace", "GPT-2")] == [b" ", b" ", b""]


def test_tokenizers_of_the_same_content_are_read_once(tmp_path: Path) -> None:
    one = _changed(tmp_path / "one")
    copy = _changed(tmp_path / "copy")
    assert canonical_tokens(one) is canonical_tokens(copy)
    first = canonical_tokens(one)
    _changed(one, normalizer=normalizers.NFC())
    assert (first.bpe.composes, canonical_tokens(one).bpe.composes) == (False, True)
