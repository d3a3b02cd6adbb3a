"""Word boundaries: pre-tokens, white space, special tokens."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.dynamic.merges import MergedTokens, find_merges
from tokenizer_tools.dynamic.words import Word, WordBoundaries, ids_of, words_of
from tokenizer_tools.vocabulary import read_vocabulary

TEXTS = [
    "Nine kidneys, said the doctor:\n\n  too many!",
    "x",
    "",
    "日本 naïve 🙂 <s> [12.5]\t'tis",
    "   spaces    and\n\nlines\n",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_merging_stays_within_pre_tokens(tiny_model: Path, text: str, share: float) -> None:
    vocabulary, tokenizer = read_vocabulary(tiny_model), load_tokenizer(tiny_model)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    starts = WordBoundaries(tokenizer, vocabulary.surfaces).starts(encoding)
    words = words_of(np.asarray(encoding.ids, dtype=np.int64), starts)
    assert ids_of(words) == encoding.ids
    tokens = MergedTokens(vocabulary.surfaces, len(vocabulary.tokens))
    merged = find_merges(words, share, tokens).apply(words)
    assert b"".join(tokens.surface(each) for each in ids_of(merged)) == text.encode()
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    decoder = decoders.ByteLevel()
    surfaces = [b"".join(map(tokens.surface, word)).decode() for word in words]
    assert surfaces == [decoder.decode([piece]) for piece, _ in pieces]
    if share == 1:
        assert [len(word) for word in merged] == [1] * len(pieces)


def test_special_tokens_are_never_merged(tiny_model: Path) -> None:
    vocabulary = read_vocabulary(tiny_model)
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    encoding = tokenizer.encode("qq<s></s>qq", add_special_tokens=False)
    starts = WordBoundaries(tokenizer, vocabulary.surfaces).starts(encoding)
    words = words_of(np.asarray(encoding.ids), starts)
    assert [len(word) for word in words] == [2, 1, 1, 2]
    assert [vocabulary.tokens[word[0]] for word in words[1:3]] == ["<s>", "</s>"]


def test_a_tokenizer_without_pre_tokens_has_words_at_white_space() -> None:
    """Make a tokenizer like Llama 2's: spaces become "▁", and the whole text is one pre-token."""
    letters = [*"abc▁", "<0x0A>", "<unk>"]
    tokenizer = Tokenizer(
        models.BPE({each: n for n, each in enumerate(letters)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    surfaces = [b"a", b"b", b"c", b" ", b"\n", None]
    encoding = tokenizer.encode("ab  c\nab\n c", add_special_tokens=False)
    starts = WordBoundaries(tokenizer, surfaces).starts(encoding)
    words = words_of(np.asarray(encoding.ids), starts)
    found = [b"".join(surfaces[each] or b"" for each in word) for word in words]
    assert found == [b"ab", b"  c", b"\n", b"ab", b"\n c"]
    tokenizer.pre_tokenizer = pre_tokenizers.Split("c", "isolated")
    encoding = tokenizer.encode("acb", add_special_tokens=False)
    assert WordBoundaries(tokenizer, surfaces).starts(encoding).all()


def test_a_window_may_begin_within_a_word() -> None:
    found: list[Word] = words_of(np.array([5, 6, 7, 8]), np.array([False, False, True, False]))
    assert found == [(5, 6), (7, 8)]
    assert words_of(np.array([], dtype=np.int64), np.array([], dtype=bool)) == []
