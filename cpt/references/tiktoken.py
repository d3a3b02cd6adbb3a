"""Read byte-level BPE without merges, as tokens in order of rank: tiktoken's files and Mistral's tekken.

Source: tiktoken's algorithm. A word that is a token is taken whole; otherwise the two neighbours that make
the token of lowest rank are merged, again and again. So any two tokens that make a token are a merge, and
merges are ordered by their products' ranks.

A tiktoken file holds neither the pattern that cuts words nor special tokens; they follow from the family,
which the number of tokens tells. Source of the families here: `llama3/tokenizer.py` and `llama4/tokenizer.py`
of Meta's llama-models 0.3.0. Source of tekken: `tokens/tokenizers/tekken.py` of mistral-common 1.13.1.

Byte-level tokenizers spell their tokens in GPT-2's alphabet: a printable character for every byte.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from cpt.errors import DataError
from cpt.references.fast_tokenizer import FastTokenizer, framed


@cache
def byte_alphabet() -> str:
    """Return the character of each byte: itself if printable in Latin-1, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


@cache
def _from_latin_1() -> dict[int, str]:
    return dict(enumerate(byte_alphabet()))


def spell(token: bytes) -> str:
    """Return a token's bytes in the alphabet."""
    return token.decode("latin-1").translate(_from_latin_1())


_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LLAMA_3 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
)
_LLAMA_4 = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
)


@dataclass(frozen=True)
class _Family:
    """The parts of a tokenizer that a tiktoken file leaves out."""

    pattern: str
    special: Sequence[str]
    pad: str


def _reserved(prefix: str, first: int, count: int) -> list[str]:
    return [f"<|{prefix}reserved_special_token_{number}|>" for number in range(first, first + count)]


def _llama_3() -> _Family:
    special = [
        "<|begin_of_text|>", "<|end_of_text|>", *_reserved("", 0, 2), "<|finetune_right_pad_id|>",
        "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
        "<|python_tag|>", "<|image|>",
    ]  # fmt: skip
    return _Family(_LLAMA_3, special + _reserved("", 2, 256 - len(special)), "<|finetune_right_pad_id|>")


def _llama_4() -> _Family:
    special = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
        "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>",
        *_reserved("text_post_train_", 0, 6), "<|python_start|>", "<|python_end|>",
        "<|finetune_right_pad|>", *_reserved("text_post_train_", 8, 61),
        "<|image_start|>", "<|image_end|>", *_reserved("vision_", 0, 2),
        "<|tile_x_separator|>", "<|tile_y_separator|>", *_reserved("vision_", 2, 4),
        "<|image|>", *_reserved("vision_", 6, 1), "<|patch|>", *_reserved("vision_", 7, 1041),
        *_reserved("reasoning_", 0, 8), "<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>",
    ]  # fmt: skip
    return _Family(_LLAMA_4, special + _reserved("", 0, 2048 - len(special)), "<|finetune_right_pad|>")


_FAMILIES = {128_000: _llama_3, 200_000: _llama_4}

_TEKKEN_SPECIAL = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]",
    "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
]  # fmt: skip
"""Special tokens of tekken files that do not list their own."""


def read_tiktoken(content: bytes, name: str) -> FastTokenizer:
    """Read a tiktoken file: a token in base64 and its rank on each line.

    Args:
        content: Content of the file.
        name: Name of the file, for messages.

    Raises:
        DataError: A line is malformed, ranks have gaps, or no known family has this many tokens.
    """
    ranks: dict[int, bytes] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[int(rank)] = base64.b64decode(token, validate=True)
        except ValueError as error:
            raise DataError(f"{name}:{number}: expected a token in base64 and its rank: {error}") from error
    tokens = [ranks[rank] for rank in sorted(ranks)]
    if sorted(ranks) != list(range(len(ranks))) or len(ranks) not in _FAMILIES:
        known = " and ".join(f"{size:,}" for size in _FAMILIES)
        raise DataError(
            f"{name} has {len(ranks):,} tokens, so its special tokens and its pattern are not known",
            hint=f"Known are Llama 3's and Llama 4's ({known} tokens). "
            "Name a folder with the tokenizer.json that its authors publish instead.",
        )
    family = _FAMILIES[len(tokens)]()
    tokenizer = _tokenizer(tokens, family.pattern)
    _add_special(tokenizer, family.special)
    roles = {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "pad": family.pad}
    framed(tokenizer, roles["bos"], None)
    return FastTokenizer(tokenizer, roles)


def read_tekken(data: Mapping[str, Any], name: str) -> FastTokenizer:
    """Read a tekken file: special tokens first, then tokens up to the stated size.

    Args:
        data: Content of the file.
        name: Name of the file, for messages.

    Raises:
        DataError: An entry is missing.
    """
    try:
        config, listed = data["config"], data.get("special_tokens")
        count = config["default_num_special_tokens"]
        special = list(_TEKKEN_SPECIAL)
        if listed is not None:
            special = [token["token_str"] for token in sorted(listed, key=lambda token: token["rank"])]
        special += [f"<SPECIAL_{number}>" for number in range(len(special), count)]
        kept = data["vocab"][: config["default_vocab_size"] - count]
        tokens = [base64.b64decode(entry["token_bytes"]) for entry in kept]
        pattern = config["pattern"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{name} is not a whole tekken file: {error} is missing") from error
    tokenizer = _tokenizer(tokens, pattern, special)
    _add_special(tokenizer, special)
    wanted = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
    roles = {role: content for role, content in wanted.items() if content in special}
    framed(tokenizer, roles.get("bos"), None)
    return FastTokenizer(tokenizer, roles)


def _tokenizer(tokens: Sequence[bytes], pattern: str, special: Sequence[str] = ()) -> Tokenizer:
    """Build a tokenizer with special tokens from id 0, then tokens by rank."""
    spelt = {token: spell(token) for token in tokens}
    contents = [*special, *spelt.values()]
    vocabulary = {content: token_id for token_id, content in enumerate(contents)}
    tokenizer = Tokenizer(models.BPE(vocabulary, _merges(spelt), ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merges(spelt: Mapping[bytes, str]) -> list[tuple[str, str]]:
    """Return all pairs of tokens that make a token, by its rank; with the longest left part first."""
    return [
        (spelt[token[:at]], spelt[token[at:]])
        for token in spelt
        for at in range(len(token) - 1, 0, -1)
        if token[:at] in spelt and token[at:] in spelt
    ]


def _add_special(tokenizer: Tokenizer, special: Sequence[str]) -> None:
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
