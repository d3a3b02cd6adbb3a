"""BPE tokenizers over a few characters, all of whose short texts can be enumerated, and tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as cut

from cpt.references.tiktoken import _LLAMA_3, spell
from tokenizer_tools.canonical.tokens import CanonicalTokens, canonical_tokens

SPECIAL = ("<s>", "</s>", "<unk>")
GPT2 = cut.ByteLevel(add_prefix_space=False)
LLAMA_3 = cut.Sequence(
    [cut.Split(Regex(_LLAMA_3), "isolated"), cut.ByteLevel(add_prefix_space=False, use_regex=False)]
)


@dataclass(frozen=True)
class Toy:
    """A tokenizer and the characters of its texts."""

    folder: Path
    characters: str

    @cached_property
    def tokens(self) -> CanonicalTokens:
        return canonical_tokens(self.folder)

    def texts(self, length: int) -> Iterator[str]:
        """All texts of at most so many characters."""
        for size in range(length + 1):
            yield from map("".join, product(self.characters, repeat=size))

    def encoded(self, length: int) -> dict[str, tuple[int, ...]]:
        """The tokens of these texts, by the order of their bytes."""
        index = {int(token_id): place for place, token_id in enumerate(self.tokens.ids)}
        texts = list(self.texts(length))
        found = self.tokens.bpe.tokenizer.encode_batch(texts, add_special_tokens=False)
        return {text: tuple(index[i] for i in each.ids) for text, each in zip(texts, found, strict=True)}


def byte_level(
    folder: Path,
    characters: str,
    merges: Sequence[tuple[bytes, bytes]],
    pre_tokenizer: Any = GPT2,
    whole: Sequence[bytes] = (),
) -> Toy:
    """A byte-level BPE; `whole` are words that are looked up, which no merges make."""
    pairs = [(spell(left), spell(right)) for left, right in merges]
    symbols = sorted({spell(bytes([byte])) for byte in characters.encode()})
    tokens = [*SPECIAL[:2], *symbols, *dict.fromkeys(a + b for a, b in pairs), *map(spell, whole)]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)}, merges=pairs, ignore_merges=bool(whole)
    )
    return _saved(folder, characters, model, decoder=decoders.ByteLevel(), pre_tokenizer=pre_tokenizer)


def sentence_piece(
    folder: Path,
    characters: str,
    in_bytes: str,
    merges: Sequence[tuple[str, str]],
    whole: Sequence[str] = (),
    **parts: Any,
) -> Toy:
    """A SentencePiece BPE; the characters `in_bytes` have no token, and fall back to their bytes."""
    symbols = sorted({"▁", *characters} - {" ", *in_bytes})
    spelt = [f"<0x{byte:02X}>" for byte in sorted(set(in_bytes.encode()))]
    tokens = [*SPECIAL, *spelt, *symbols, *dict.fromkeys(a + b for a, b in merges), *whole]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=list(merges),
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
        ignore_merges=bool(whole),
    )
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _saved(folder, characters, model, decoder=decoder, **parts)


def _saved(folder: Path, characters: str, model: Any, **parts: Any) -> Toy:
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    special = [token for token in SPECIAL if tokenizer.token_to_id(token) is not None]
    tokenizer.add_special_tokens(special)
    names: Mapping[str, str] = dict(zip(("bos_token", "eos_token", "unk_token"), special, strict=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return Toy(folder, characters)


_MERGES = [
    (b" ", b"a"), (b"\xc3", b"\xa9"), (b"'", b"s"), (b"a", b"a"), (b" a", b"a"), (b"s", b"s"), (b" ", b" "),
    (b"a", b"\xc3"), (b"\xc3\xa9", b"\xc3"), (b"\xa9", b"a"), (b"s", b" "), (b"\n", b"\n"), (b"1", b"1"),
]  # fmt: skip
_MARKED = [
    ("▁", "a"), ("a", "s"), ("▁", "▁"), ("s", "s"), ("▁a", "s"), ("a", "a"), ("▁", "as"), ("s", "▁"),
]  # fmt: skip

_LLAMA_2 = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def _usable(characters: str) -> list[tuple[bytes, bytes]]:
    known = set(characters.encode())
    return [(left, right) for left, right in _MERGES if set(left + right) <= known]


KINDS = {
    "GPT-2": lambda folder: byte_level(folder, "as' é÷", _usable("as' é÷")),
    "white space": lambda folder: byte_level(folder, "a1 \n\t", _usable("a1 \n\t")),
    "digits": lambda folder: byte_level(
        folder, "a1 \n", _usable("a1 \n"), cut.Sequence([cut.Digits(individual_digits=True), GPT2])
    ),
    "Llama 3": lambda folder: byte_level(folder, "a1 \n'", _usable("a1 \n'"), LLAMA_3),
    "whole words": lambda folder: byte_level(
        folder, "as é÷", _usable("as é÷"), LLAMA_3, [b" as", b"sa", "éa".encode(), "éé".encode()]
    ),
    "one piece": lambda folder: byte_level(
        folder, "as é÷", _usable("as é÷"), cut.ByteLevel(add_prefix_space=False, use_regex=False)
    ),
    "lower ranks later": lambda folder: byte_level(
        folder,
        "as é÷",
        [(b"as", b"s"), (b" a", b"s"), (b"s", b"a"), (b"a", b"s"), (b" ", b"a"), (b"s", b"s")],
    ),
    "Llama 2": lambda folder: sentence_piece(folder, "as é÷", "é÷", _MARKED, normalizer=_LLAMA_2),
    "Metaspace": lambda folder: sentence_piece(
        folder, "as é÷", "é÷", _MARKED, pre_tokenizer=cut.Metaspace()
    ),
    "Mistral": lambda folder: sentence_piece(
        folder, "as é÷", "é÷", _MARKED, pre_tokenizer=cut.Metaspace(split=False)
    ),
    "Metaspace, whole words": lambda folder: sentence_piece(
        folder, "as é÷", "é÷", _MARKED, ["▁sa", "sas"], pre_tokenizer=cut.Metaspace(prepend_scheme="never")
    ),
}  # fmt: skip
"""Tokenizers by what they have in common with."""


def write_model(toy: Toy, seed: int = 0, kind: str = "Llama", **settings: Any) -> Path:
    """Put a tiny random model, of which every token depends on all before it, beside a tokenizer."""
    import torch
    import transformers

    size = 1 + max(json.loads((toy.folder / "tokenizer.json").read_text())["model"]["vocab"].values())
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=size + 3,  # rows without a token
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        **settings,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config = transformers.GenerationConfig(bos_token_id=0, eos_token_id=1)
    model.save_pretrained(toy.folder)
    return toy.folder
