"""Long texts, cut into words part by part."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tokenizer_tools.extension import words
from tokenizer_tools.extension.words import WordCutter, WordSequence, count_words

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
KINDS: dict[str, Any] = {
    "byte level": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "byte level with a space in front": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "llama 3": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA_3), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    ),
    "white space": pre_tokenizers.Whitespace(),
    "metaspace": pre_tokenizers.Metaspace(),
    "metaspace, first": pre_tokenizers.Metaspace(prepend_scheme="first"),
}


def text(length: int) -> str:
    generator = random.Random(5)
    alphabet = [
        "fever",
        "The",
        "37",
        "!",
        "?\n",
        "\n\n",
        "  ",
        " ",
        " ",
        " ",
        "don't",
        "\t",
        "é",
        "心臓",
        "  \n",
    ]
    return "".join(generator.choice(alphabet) for _ in range(length))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_long_text_have_its_words(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = KINDS[kind]
    cutter, long = WordCutter.of(tokenizer), text(4_000)
    [whole] = cutter.words(long)
    monkeypatch.setattr(words, "_LONG", 300)
    monkeypatch.setattr(words, "_AROUND", 40)
    [in_parts] = cutter.words(long)
    assert in_parts == whole
    parts = list(cutter._parts(long))
    assert "".join(parts) == long
    assert max(map(len, parts)) < 1_000


def test_counts_and_order_of_a_long_text_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = KINDS["llama 3"]
    found = []
    for size in (1 << 18, 300):
        monkeypatch.setattr(words, "_LONG", size)
        with WordSequence() as sequence:
            counts = count_words(tokenizer, [text(3_000), "short"], sequence=sequence, processes=1)
            found.append((list(counts.items()), [part.tolist() for part in sequence]))
    assert found[0] == found[1]
