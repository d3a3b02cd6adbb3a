"""Counts of bytes, words and tokens."""

from pathlib import Path

import numpy as np
import pytest
from bpe_models import NEW_TEXTS, OLD_TEXTS, edit, write_byte_level
from tokenizers import Tokenizer

from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.measure import bytes_per_token, count


@pytest.fixture
def bytewise(tmp_path: Path) -> Tokenizer:
    """One token per byte."""
    return load_tokenizer(edit(write_byte_level(tmp_path), merges=[]))


def test_counts_are_those_of_one_text_at_a_time(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_byte_level(tmp_path))
    texts = [f"{number} {text}" for number in range(400) for text in NEW_TEXTS[:3] + OLD_TEXTS[:2]]
    counts = count(tokenizer, iter(texts))
    uses = np.zeros(len(counts.uses), int)
    for text in texts:
        np.add.at(uses, tokenizer.encode(text).ids, 1)
    assert (counts.uses == uses).all()
    assert counts.tokens == uses.sum()
    assert counts.bytes == sum(len(text.encode()) for text in texts)
    assert counts.words == sum(len(text.split()) for text in texts)


def test_bytes_are_counted_not_characters(bytewise: Tokenizer) -> None:
    assert count(bytewise, ["aé", "bcd"]).tokens == count(bytewise, ["aé", "bcd"]).bytes == 6
    assert bytes_per_token(bytewise, ["aé", "bcd"]) == pytest.approx(1.0)


def test_a_special_token_in_a_text_is_text(bytewise: Tokenizer) -> None:
    assert count(bytewise, ["<s>"]).tokens == 3


def test_no_text_has_no_bytes_per_token(bytewise: Tokenizer) -> None:
    assert count(bytewise, [""]).tokens == count(bytewise, []).tokens == 0
    with pytest.raises(ValueError, match="no text"):
        bytes_per_token(bytewise, [""])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two\nthree", 3),
        ("한국어 텍스트 예문", 3),
        ("mostly English words beside 漢字", 5),
        ("这是一个句子。 另一个", None),
        ("ภาษาไทยไม่มีช่องว่าง ระหว่างคำ", None),
        ("かな交じり文 PCR", None),
    ],
)
def test_words_are_counted_only_where_spaces_separate_them(
    bytewise: Tokenizer, text: str, words: int | None
) -> None:
    assert count(bytewise, [text]).words == words
