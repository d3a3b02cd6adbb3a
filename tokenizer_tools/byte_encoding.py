"""Convert tokens to bytes and back: GPT-2's byte alphabet, SentencePiece's "▁" and <0xNN>, WordPiece's "##".

A byte encoding gives the bytes that a token stands for, and the tokens that stand for bytes. It works in the
middle of a text: changes that a tokenizer makes only at the start or end of a text (a space put in front,
spaces stripped) are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import Any, Protocol

from tokenizers import Tokenizer, models

from cpt.references.tiktoken import byte_alphabet, spell

WORD_START = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class ByteEncoding(Protocol):
    """The common methods of byte-level, metaspace and WordPiece encodings."""

    def surface(self, token: str) -> bytes:
        """Return the bytes of text that a token of the model's vocabulary stands for."""

    def added_surface(self, content: str) -> bytes:
        """Return the bytes of text that an added token stands for."""

    def segment(self, surfaces: Sequence[bytes], *, one_word: bool) -> list[list[int]]:
        """Return the ids of each surface, the unknown token's among them.

        Args:
            surfaces: Bytes of text.
            one_word: True if each surface lies within one word, so that it is not cut into words first.
        """


def byte_encoding(data: Mapping[str, Any]) -> ByteEncoding | None:
    """Return the byte encoding of a tokenizer.json; None for an unknown one."""
    model = data["model"]
    if model["type"] == "WordPiece":
        return WordPieceEncoding(data)
    if model["type"] not in ("BPE", "Unigram") or model.get("end_of_word_suffix"):
        return None
    parts = list(components(data))
    if any(part["type"] == "ByteLevel" for part in parts):
        return ByteLevelEncoding(data)
    if any(_marks_word_start(part) for part in parts):
        return MetaspaceEncoding(data)
    return None


def components(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every normalizer, pre-tokenizer and decoder in a tokenizer.json, with sequences taken apart."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        yield from _flat(data.get(part))


def _flat(component: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if component is None:
        return
    if component["type"] != "Sequence":
        yield component
    for parts in ("normalizers", "pretokenizers", "decoders"):
        for part in component.get(parts, ()):
            yield from _flat(part)


def _marks_word_start(component: Mapping[str, Any]) -> bool:
    is_replacement = component["type"] == "Replace" and WORD_START in str(component)
    return component["type"] == "Metaspace" or is_replacement


def mid_text_tokenizer(data: Mapping[str, Any]) -> Tokenizer:
    """Return a tokenizer that acts as in the middle of a text, and reads special tokens as plain text."""
    changed = {**data, "post_processor": None, "truncation": None, "padding": None}
    cuts_at_marks = any(part["type"] == "Metaspace" for part in components(data))
    for part in ("normalizer", "pre_tokenizer"):
        changed[part] = _mid_text(data.get(part), cuts_at_marks)
    tokenizer = Tokenizer.from_str(json.dumps(changed))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _mid_text(component: Mapping[str, Any] | None, cuts_at_marks: bool) -> dict[str, Any] | None:
    if component is None or component["type"] in ("Prepend", "Strip"):
        return None
    if component["type"] == "WhitespaceSplit" and cuts_at_marks:
        return None  # it would drop the spaces by which Metaspace marks words
    if component["type"] == "Metaspace":
        return {**component, "prepend_scheme": "never"}
    if component["type"] == "ByteLevel":
        return {**component, "add_prefix_space": False}
    if component["type"] == "Sequence":
        parts = "normalizers" if "normalizers" in component else "pretokenizers"
        kept = [_mid_text(part, cuts_at_marks) for part in component[parts]]
        return {**component, parts: [part for part in kept if part is not None]}
    return dict(component)


@cache
def _bytes_of_alphabet() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_alphabet())}


class _Encoding:
    """A tokenizer.json whose tokenizer is built on first use."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return mid_text_tokenizer(self._data)

    @cached_property
    def _model(self) -> models.Model:
        return self._tokenizer.model


class ByteLevelEncoding(_Encoding):
    """Encoding of every byte by a character of GPT-2's alphabet."""

    def surface(self, token: str) -> bytes:
        try:
            return bytes(map(_bytes_of_alphabet().__getitem__, token))
        except KeyError:  # the decoder also keeps a token outside the alphabet as it is
            return token.encode()

    def added_surface(self, content: str) -> bytes:
        return content.encode()

    def segment(self, surfaces: Sequence[bytes], *, one_word: bool) -> list[list[int]]:
        texts = [None if one_word else _text(surface) for surface in surfaces]
        encoded = iter(_encode(self._tokenizer, [text for text in texts if text is not None]))
        return [
            self._merge(surface) if text is None else next(encoded)
            for surface, text in zip(surfaces, texts, strict=True)
        ]

    def _merge(self, surface: bytes) -> list[int]:
        return [token.id for token in self._model.tokenize(spell(surface))]


class MetaspaceEncoding(_Encoding):
    """Encoding of spaces by "▁", and of bytes in no piece by <0xNN> if the model has such tokens."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self._has_bytes = bool(data["model"].get("byte_fallback"))

    def surface(self, token: str) -> bytes:
        byte = _BYTE.fullmatch(token) if self._has_bytes else None
        return bytes.fromhex(byte[1]) if byte else self.added_surface(token)

    def added_surface(self, content: str) -> bytes:
        return content.replace(WORD_START, " ").encode()

    def segment(self, surfaces: Sequence[bytes], *, one_word: bool) -> list[list[int]]:
        runs = [list(_runs(surface)) for surface in surfaces]
        texts = [run for parts in runs for run in parts if isinstance(run, str)]
        encoded = iter(self._words(texts) if one_word else _encode(self._tokenizer, texts))
        return [
            [
                token_id
                for run in parts
                for token_id in (next(encoded) if isinstance(run, str) else self._bytes(run))
            ]
            for parts in runs
        ]

    def _words(self, texts: Sequence[str]) -> list[list[int]]:
        marked = (text.replace(" ", WORD_START) for text in texts)
        return [[token.id for token in self._model.tokenize(word)] for word in marked]

    def _bytes(self, run: bytes) -> list[int]:
        """Return the ids of byte tokens; -1, as for an unknown token, for a byte without one."""
        ids = (self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in run)
        return [-1 if token_id is None or not self._has_bytes else token_id for token_id in ids]


class WordPieceEncoding(_Encoding):
    """Encoding of words by longest pieces; a piece that continues a word starts with "##"."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self._vocabulary: Mapping[str, int] = data["model"]["vocab"]
        self._prefix: str = data["model"]["continuing_subword_prefix"]
        self._stands_alone = cache(self._is_cut_off)

    def surface(self, token: str) -> bytes:
        if token.startswith(self._prefix) and token != self._prefix:
            return token.removeprefix(self._prefix).encode()
        return (token if len(token) == 1 and self._stands_alone(token) else f" {token}").encode()

    def added_surface(self, content: str) -> bytes:
        return content.encode()

    def segment(self, surfaces: Sequence[bytes], *, one_word: bool) -> list[list[int]]:
        return [self._segment(_text(surface) or "", one_word) for surface in surfaces]

    def _segment(self, text: str, one_word: bool) -> list[int]:
        ids: list[int] = []
        for at, word in enumerate([text.strip()] if one_word and text.strip() else self._words(text)):
            continued = at == 0 and not text[0].isspace() and not self._stands_alone(word[0])
            ids += self._longest_pieces(word, continued)
        return ids

    def _words(self, text: str) -> list[str]:
        normalizer, pre_tokenizer = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        normal = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in pre_tokenizer.pre_tokenize_str(normal)] if pre_tokenizer else [normal]

    def _is_cut_off(self, character: str) -> bool:
        """Return True if a character is a word of its own even inside a word, as punctuation is."""
        return len(self._words(f"a{character}a")) > 1

    def _longest_pieces(self, word: str, continued: bool) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(word):
            prefix = self._prefix if continued or start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._vocabulary), None)
            if end is None:
                return [-1]
            ids.append(self._vocabulary[prefix + word[start:end]])
            start = end
        return ids


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _text(surface: bytes) -> str | None:
    try:
        return surface.decode()
    except UnicodeDecodeError:
        return None


def _runs(surface: bytes) -> Iterator[str | bytes]:
    """Yield runs of whole characters as text, and runs of other bytes as bytes."""
    text = surface.decode(errors="surrogateescape")
    for is_broken, run in groupby(text, lambda character: "\udc80" <= character <= "\udcff"):
        joined = "".join(run)
        yield joined.encode(errors="surrogateescape") if is_broken else joined
