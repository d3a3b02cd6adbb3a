"""A long text has the ids that it has in one piece, whatever kind of tokenizer and text it is."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from cpt.errors import DataError
from cpt.models import encoding
from cpt.models.encoding import token_ids

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PLAIN = "the heart of the matter is a fever and a night's kidneys don't ache"
SCRIPTS = (
    "na\u00efve e\u0301te\u0301 \u1e9b\u0323 \u212b A\u030a \uac00 \u1112\u1161\u11ab \ufb01n \u00bd "
    "x\u0323\u0307 \u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3002 \u4f60\u597d\uff0c\u4e16\u754c\u3002 "
    "\u0e44\u0e17\u0e22 "
    "\u041c\u043e\u0441\u043a\u0432\u0430 12345 3.14159 0x1F600 \U0001f600 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2581\u2581 <s> </s> [UNK] &amp; (e.g.)"
)
PIECES = PLAIN.split() * 3 + SCRIPTS.split()
GAPS = [" "] * 12 + [
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \n ",
    "\u00a0",
    "\u3000",
    "\u2028",
    "",
    "    " * 8,
]


def text_of(seed: int, characters: int) -> str:
    """Words of many scripts and gaps of many kinds, with runs of one character among them."""
    chance = random.Random(seed)
    parts: list[str] = []
    size = 0
    while size < characters:
        parts += [chance.choice(PIECES), chance.choice(GAPS)]
        if chance.random() < 0.005:
            parts.append(
                chance.choice(["a", " ", "\n", "7", "=", "\u0301", "\u65e5"]) * chance.randrange(300)
            )
        size += sum(map(len, parts[-3:]))
    return "".join(parts)


def trained(tokenizer: Tokenizer, trainer: object) -> Tokenizer:
    tokenizer.train_from_iterator([text_of(seed, 4000) for seed in range(8)], trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def byte_level(pre_tokenizer: object, normalizer: object = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    return trained(tokenizer, trainer)


def gpt2() -> Tokenizer:
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def prefix_space() -> Tokenizer:
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.NFC())


def gpt4() -> Tokenizer:
    split = pre_tokenizers.Split(Regex(GPT4), "isolated")
    return byte_level(pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)]))


def digits_and_nfkc() -> Tokenizer:
    parts = [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    return byte_level(pre_tokenizers.Sequence(parts), normalizers.NFKC())


def words_without_spaces_before() -> Tokenizer:
    return byte_level(pre_tokenizers.ByteLevel(False), normalizers.Sequence([normalizers.Strip()]))


def added_runs_of_spaces() -> Tokenizer:
    tokenizer = gpt2()
    tokenizer.add_tokens([" " * count for count in (2, 4, 8, 16)])
    return tokenizer


def sentence_piece(byte_fallback: bool, by_word: bool) -> Tokenizer:
    """Train with words, as SentencePiece does; without them merges run over the whole text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256) if byte_fallback)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, limit_alphabet=60, special_tokens=special, show_progress=False
    )
    trained(tokenizer, trainer)
    if not by_word:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
        tokenizer.pre_tokenizer = None  # type: ignore[assignment]
    return tokenizer


def unigram(unk: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False
    )
    return trained(tokenizer, trainer)


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False)
    return trained(tokenizer, trainer)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "GPT-2": gpt2,
    "GPT-4": gpt4,
    "prefix space, NFC": prefix_space,
    "single digits, NFKC": digits_and_nfkc,
    "strip": words_without_spaces_before,
    "added tokens": added_runs_of_spaces,
    "SentencePiece, words": lambda: sentence_piece(False, True),
    "SentencePiece, words, bytes": lambda: sentence_piece(True, True),
    "SentencePiece, no words": lambda: sentence_piece(False, False),
    "SentencePiece, no words, bytes": lambda: sentence_piece(True, False),
    "Unigram": unigram,
    "WordPiece": word_piece,
}


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many windows in a short text, with margins that runs of characters exceed now and then."""
    monkeypatch.setattr(encoding, "LONG", 2000)
    monkeypatch.setattr(encoding, "_WINDOW", 1000)
    monkeypatch.setattr(encoding, "_OVERLAP", 400)
    monkeypatch.setattr(encoding, "_MARGIN", 100)
    monkeypatch.setattr(encoding, "_LARGEST", 1 << 16)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_are_those_of_one_piece(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = KINDS[kind]()
    parts: list[int] = []
    windows = encoding._windows
    monkeypatch.setattr(
        encoding, "_windows", lambda *each: (parts.append(len(ids)) or ids for ids in windows(*each))
    )
    for seed in range(100, 112):
        text = text_of(seed, 12_000)
        [found] = token_ids(tokenizer, [text])
        assert found.dtype == np.uint32
        assert found.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    assert len(parts) > 12 * 5, "few windows: the text was hardly cut"


def test_short_and_long_texts_come_back_in_their_order() -> None:
    tokenizer = gpt2()
    texts = ["short", text_of(1, 5000), "", text_of(2, 5000), "last"]
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert [ids.tolist() for ids in token_ids(tokenizer, texts)] == expected


@pytest.mark.parametrize("run", ["a", " ", "ab", "\n", "7", "\u65e5"])
@pytest.mark.parametrize("kind", ["GPT-2", "GPT-4", "SentencePiece, no words, bytes", "Unigram", "WordPiece"])
def test_a_run_without_a_place_to_cut_is_encoded_in_one_piece(kind: str, run: str) -> None:
    tokenizer = KINDS[kind]()
    text = "before " * 300 + run * (6000 // len(run)) + " and after" * 300
    [found] = token_ids(tokenizer, [text])
    assert found.tolist() == tokenizer.encode(text, add_special_tokens=False).ids


def test_a_run_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_LARGEST", 4000)
    message = (
        r"more than 4,000 characters in a row .* cut for the tokenizer: 'aaaa.*\n  Take this stretch out"
    )
    with pytest.raises(DataError, match=message):
        list(token_ids(gpt2(), ["a" * 20_000]))


def test_pieces_of_a_fixed_length_from_the_beginning_are_never_cut_wrongly() -> None:
    tokenizer = gpt2()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.FixedLength(7), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    text = text_of(3, 9000)
    [found] = token_ids(tokenizer, [text])
    assert found.tolist() == tokenizer.encode(text, add_special_tokens=False).ids


def test_pairs_of_digits_that_begin_at_an_odd_place_are_not_cut_at_even_ones() -> None:
    """Parts of a long run agree with each other, and are wrong all the same: the whole window tells."""
    split = pre_tokenizers.Split(Regex(r"\p{N}{1,2}|\P{N}+"), "isolated")
    tokenizer = byte_level(pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)]))
    text = "odd" + "1234567890" * 900 + " end" * 100
    [found] = token_ids(tokenizer, [text])
    assert found.tolist() == tokenizer.encode(text, add_special_tokens=False).ids


def test_a_text_is_encoded_hardly_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    ids = encoding._ids
    monkeypatch.setattr(encoding, "_ids", lambda each, text: (seen.append(len(text)), ids(each, text))[1])
    text = "plain words of a text " * 2000
    list(token_ids(gpt2(), [text]))
    assert len(seen) > 20
    assert sum(seen) < 1.5 * len(text)
