"""Tokenizers in their authors' formats, small, and texts that tell conversions apart."""

from __future__ import annotations

import base64
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

LINES = [
    "The heart of the matter is the heart; a fever in the night is a fever still.",
    "Nine kidneys, said the doctor, are too many kidneys: 1, 2, 3 or 9 (see page 1234).",
    "What the nerve conducts, the muscle contracts; -- ==== ---- and so on...",
    "Über den Ödemen, naïve façade; ½ teaspoon of ﬁne salt, 心臓 and 心, 100 °C.",
    "def heart(rate):\n    return  {'rate': rate,   'unit': \"bpm\"}",
]

ORDINARY = [
    *LINES,
    "",
    " ",
    "   x",
    "x ",
    "a  b   c",
    "\n",
    "\t\tx\n\ny",
    "don't I'LL HeLLo",
    "emoji 🤗😀👩‍👩‍👧, 日本語 中文",
    "e\u0301 \x00\x01 \u200b \u00a0 a\u3000b",
    "http://x.y/z?a=b&c ABC_def",
    "[REF]x [REF] 12 321",
    "a▁b",
]


def adversarial() -> list[str]:
    """Runs, in which overlapping merges compete, and random mixtures."""
    draw = random.Random(0)
    runs = [unit * count for unit in ("a", " ", "=", "-", "ha", "\n") for count in range(1, 40)]
    mixed = ["".join(draw.choices("ab =-.\n tThe1é心", k=draw.randrange(60))) for _ in range(200)]
    return [*runs, *mixed]


def write_sentence_piece(path: Path, **settings: Any) -> Path:
    """A trained SentencePiece model; 150 pieces besides bytes."""
    from sentencepiece import SentencePieceTrainer

    size = 150 + 256 * settings.get("byte_fallback", False)
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(LINES * 20),
            model_writer=file,
            **{"vocab_size": size, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1, **settings},
        )
    return path


def byte_ranks(size: int) -> list[bytes]:
    """Tokens of a trained byte-level BPE by rank, the 256 bytes first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES * 5 + [" " * 16, "=" * 24] * 20, trainer)
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    byte_of = {chr(byte if byte in printable else next(others)): byte for byte in range(256)}
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [bytes(byte_of[character] for character in token) for token, _ in tokens]


def write_tiktoken(path: Path, tokens: list[bytes]) -> Path:
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))
    path.write_text("".join(lines))
    return path


def write_tekken(path: Path, tokens: list[bytes], pattern: str, **more: Any) -> Path:
    """A tekken file with 20 tokens more than its size lets in, and 30 places for special tokens."""
    vocabulary = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for rank, token in enumerate(tokens)
    ]
    config = {
        "pattern": pattern,
        "default_vocab_size": len(tokens) - 20 + 30,
        "default_num_special_tokens": 30,
        "version": "v3",
    }
    path.write_text(json.dumps({"config": config, "vocab": vocabulary, **more}))
    return path


def by_rank(word: bytes, ranks: dict[bytes, int]) -> list[int]:
    """tiktoken's algorithm, by brute force: the neighbours that make the lowest rank are merged."""
    if word in ranks:
        return [ranks[word]]
    parts = [bytes([byte]) for byte in word]
    while True:
        joined = [(ranks.get(left + right), at) for at, (left, right) in enumerate(pairwise(parts))]
        possible = [(rank, at) for rank, at in joined if rank is not None]
        if not possible:
            return [ranks[part] for part in parts]
        _, at = min(possible)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def write_word_piece(path: Path, *more: str) -> Path:
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "心", "the", "heart", "he"]
    pieces += ["a", "fever", "##s", "##art", "##ver", "##e", "##a", "##r", "##t", "uber", "1", "##1", *more]
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return path
