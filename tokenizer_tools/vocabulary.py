"""Read the tokens of any fast tokenizer, and the bytes that they stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import FILE, load_tokenizer, special_tokens
from tokenizer_tools.byte_encoding import ByteEncoding, ByteLevelEncoding, byte_encoding

Kind = Literal["byte-level BPE", "SentencePiece BPE", "Unigram", "WordPiece"]


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a tokenizer.

    Attributes:
        folder: Folder of the tokenizer.
        kind: Kind of the tokenizer.
        tokenizer: Tokenizer that reads special tokens in a text as plain text, without truncation or padding.
        tokens: Tokens by id, as the vocabulary spells them; None for unused ids.
        surfaces: Bytes of text by id, with a word's leading space ("Ġheart", "▁heart" and WordPiece's "heart"
            are all b" heart"; "##art" is b"art"; "<0x0A>" is b"\\n"; WordPiece's punctuation, which needs no
            space before it, has none); None for special and unused ids.
        special: Id of every special token by content.
        roles: Id by role: "bos", "eos", "pad", "unk", "sep", "cls", "mask".
    """

    folder: Path
    kind: Kind
    tokenizer: Tokenizer
    tokens: Sequence[str | None]
    surfaces: Sequence[bytes | None]
    special: Mapping[str, int]
    roles: Mapping[str, int]

    def segment(self, surface: bytes) -> list[int]:
        """Return the ids of bytes in the middle of a text; nothing if the tokenizer cannot spell them.

        A leading space starts a word. Bytes that are no whole characters are spelt where possible.
        """
        return self.segment_all([surface])[0]

    def segment_all(self, surfaces: Sequence[bytes], *, one_word: bool = False) -> list[list[int]]:
        """Return the ids of each surface, as `segment` does.

        Args:
            surfaces: Bytes of text.
            one_word: True if each surface lies within one word, so that it is not cut into words first. This
                holds for tokens of a tokenizer with the same pre-tokenizer.
        """
        cannot = {-1, *self.special.values()}
        found = self._encoding.segment(surfaces, one_word=one_word)
        return [ids if cannot.isdisjoint(ids) else [] for ids in found]

    @cached_property
    def unknown(self) -> int | None:
        """Return the id of the token for text that the model cannot spell, if it has one."""
        return next(_unknown(json.loads(self.tokenizer.to_str())), None)

    @cached_property
    def _encoding(self) -> ByteEncoding:
        found = byte_encoding(json.loads(self.tokenizer.to_str()))
        assert found is not None, "read_vocabulary refuses others"
        return found


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read the vocabulary of a tokenizer folder.

    Raises:
        DataError: The folder has no tokenizer.json, or its model is of no known kind.
    """
    tokenizer = _load(folder)
    data = json.loads(tokenizer.to_str())
    encoding = byte_encoding(data)
    if encoding is None:
        raise DataError(
            f"{folder / FILE} is {_description(data)}, whose tokens cannot be read as bytes",
            hint="Known are byte-level BPE, SentencePiece BPE, Unigram and WordPiece.",
        )
    tokens = _tokens(tokenizer)
    roles = _roles(folder, tokenizer)
    added = {token["id"]: token for token in data["added_tokens"]}
    special_ids = {token_id for token_id, token in added.items() if token["special"]}
    special_ids |= {token_id for token_id in roles.values() if token_id in added} | set(_unknown(data))

    def surface(token_id: int, token: str | None) -> bytes | None:
        if token is None or token_id in special_ids:
            return None
        return encoding.added_surface(token) if token_id in added else encoding.surface(token)

    return Vocabulary(
        folder=folder,
        kind=_kind(data, encoding),
        tokenizer=tokenizer,
        tokens=tokens,
        surfaces=[surface(token_id, token) for token_id, token in enumerate(tokens)],
        special={tokens[token_id] or "": token_id for token_id in sorted(special_ids)},
        roles=roles,
    )


def _load(folder: Path) -> Tokenizer:
    file = folder / FILE
    if not file.is_file():
        raise DataError(
            f"{folder} has no {FILE}",
            hint="cpt.references.resolve_tokenizer converts tokenizers of other formats to such a folder.",
        )
    return load_tokenizer(folder)


def _kind(data: Mapping[str, Any], encoding: ByteEncoding) -> Kind:
    if data["model"]["type"] == "WordPiece":
        return "WordPiece"
    if data["model"]["type"] == "Unigram":
        return "Unigram"
    return "byte-level BPE" if isinstance(encoding, ByteLevelEncoding) else "SentencePiece BPE"


def _description(data: Mapping[str, Any]) -> str:
    name = str(data["model"]["type"])
    if suffix := data["model"].get("end_of_word_suffix"):
        return f"{name} that marks the ends of words with {suffix!r}"
    return f'{name} without a byte alphabet or "▁" for spaces' if name in ("BPE", "Unigram") else name


def _tokens(tokenizer: Tokenizer) -> list[str | None]:
    ids = tokenizer.get_vocab(with_added_tokens=True)
    tokens: list[str | None] = [None] * (max(ids.values(), default=-1) + 1)
    for token, token_id in ids.items():
        tokens[token_id] = token
    return tokens


def _unknown(data: Mapping[str, Any]) -> Iterator[int]:
    """Yield the id of the model's unknown token, if it has one."""
    model = data["model"]
    token_id = model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model["unk_token"])
    if token_id is not None:
        yield token_id


def _roles(folder: Path, tokenizer: Tokenizer) -> dict[str, int]:
    ids = {role: tokenizer.token_to_id(content) for role, content in special_tokens(folder).items()}
    return {role: token_id for role, token_id in ids.items() if token_id is not None}
