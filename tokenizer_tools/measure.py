"""Measure a tokenizer on texts: compression, tokens out of reach, unused tokens, splits of terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.encoding import blocks, token_ids
from cpt.models.tokenizer import load_tokenizer, out_of_reach
from tokenizer_tools.vocabulary import Kind, Vocabulary, read_vocabulary

_BATCH = 1024
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
"""Scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese, Chinese."""


@dataclass(frozen=True)
class Counts:
    """Counts of a tokenizer on texts, special tokens not added.

    Attributes:
        bytes: Number of bytes of the texts in UTF-8.
        words: Number of words between white space; None if most characters are of a script without spaces.
        tokens: Number of tokens of the texts.
        uses: [V] number of occurrences of each token id.
    """

    bytes: int
    words: int | None
    tokens: int
    uses: np.ndarray


def count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counts:
    """Tokenise texts, a batch at a time, and count bytes, words and tokens."""
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    uses = np.zeros(size, np.int64)
    byte_count = words = characters = unspaced = 0
    for batch in _batches(texts):
        uses += np.bincount(np.concatenate(list(token_ids(tokenizer, batch))), minlength=size)
        for text in batch:
            for part in blocks(text):
                parts = part.split()
                words += len(parts)
                characters += sum(map(len, parts))
            unspaced += len(_UNSPACED.findall(text))
            byte_count += len(text.encode())
    spaced = 2 * unspaced <= characters
    return Counts(byte_count, words if spaced else None, int(uses.sum()), uses)


def bytes_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Compute the UTF-8 bytes of texts per token, special tokens not added.

    Raises:
        ValueError: The texts hold no token.
    """
    counts = count(tokenizer, texts)
    if not counts.tokens:
        raise ValueError("no text to measure")
    return counts.bytes / counts.tokens


def compression(before: Path, after: Path, texts: Sequence[str], prefix: str = "") -> dict[str, float]:
    """Compute the bytes per token of two tokenizers on texts.

    Args:
        before, after: Folders of the tokenizers.
        texts: Texts to measure on.
        prefix: Start of the result's keys.

    Returns:
        `bytes_per_token_before` and `bytes_per_token_after`, each behind the prefix; nothing without text.

    Raises:
        DataError: The texts hold no token.
    """
    if not any(texts):
        return {}
    try:
        return {
            f"{prefix}bytes_per_token_{when}": bytes_per_token(load_tokenizer(folder), texts)
            for when, folder in (("before", before), ("after", after))
        }
    except ValueError as error:
        raise DataError(f"the text cannot be measured: {error}") from error


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


EXAMPLES = 10

_CONTEXTS = ("{}", "a{}", "a {}", "1{}", ".{}", " {}a", "\n{}", "{}.")
"""Contexts in which a token is searched: a text's start, letters, digits, punctuation, line breaks."""


@dataclass(frozen=True)
class Tokens:
    """Some of the ordinary tokens: those that are not special, not added and not spelt <0xNN>.

    Attributes:
        count: Number of the tokens.
        share: Share of all ordinary tokens.
        examples: First tokens by id, as the vocabulary spells them.
    """

    count: int
    share: float
    examples: Sequence[str]


@dataclass(frozen=True)
class TextReport:
    """Measurements of one text, or set of documents, special tokens not added.

    Attributes:
        bytes: Number of bytes in UTF-8.
        words: Number of words between white space; None for a script without spaces between words.
        tokens: Number of tokens.
        bytes_per_token: Bytes per token; higher is better.
        fertility: Tokens per word, lower is better; None without words.
        unknown: Number of tokens for text that the tokenizer cannot spell.
        unused: Ordinary tokens that do not occur.
    """

    bytes: int
    words: int | None
    tokens: int
    bytes_per_token: float
    fertility: float | None
    unknown: int
    unused: Tokens


@dataclass(frozen=True)
class Split:
    """The tokens of a term in the middle of a sentence.

    Attributes:
        term: Term, without the space before it.
        tokens: Text of each token, bytes that are no whole character as \\xNN; empty if the tokenizer cannot
            spell the term.
    """

    term: str
    tokens: Sequence[str]


@dataclass(frozen=True)
class TokenizerReport:
    """Measurements of a tokenizer. `dataclasses.asdict` gives plain JSON.

    Attributes:
        kind: Kind of the tokenizer.
        size: Number of tokens in the vocabulary, special ones included.
        special: Number of special tokens.
        unreachable: Ordinary tokens that the model never makes, not even from their own spelling.
        split_by_pre_tokenizer: Ordinary tokens that the model would make, but that text never becomes in any
            of the contexts tried: it is cut, or normalised, before the model sees it.
        texts: Measurements by name of the text.
        terms: Splits of the chosen terms.
    """

    kind: Kind
    size: int
    special: int
    unreachable: Tokens
    split_by_pre_tokenizer: Tokens
    texts: Mapping[str, TextReport]
    terms: Sequence[Split]


def report(
    tokenizer: Path | Vocabulary, texts: Mapping[str, Iterable[str]], terms: Sequence[str] = ()
) -> TokenizerReport:
    """Measure a tokenizer.

    Args:
        tokenizer: Folder or vocabulary of the tokenizer.
        texts: Documents by the name that they have in the report; each is passed over once.
        terms: Words or phrases whose splits are shown.

    Raises:
        DataError: The tokenizer is of no known kind, or a text holds no token.
    """
    vocabulary = tokenizer if isinstance(tokenizer, Vocabulary) else read_vocabulary(tokenizer)
    ordinary = ordinary_ids(vocabulary)
    unreachable = unreachable_ids(vocabulary, ordinary)
    reachable = sorted(set(ordinary) - set(unreachable))
    return TokenizerReport(
        kind=vocabulary.kind,
        size=sum(token is not None for token in vocabulary.tokens),
        special=len(vocabulary.special),
        unreachable=_tokens(vocabulary, unreachable, ordinary),
        split_by_pre_tokenizer=_tokens(vocabulary, split_ids(vocabulary, reachable), ordinary),
        texts={name: _text(vocabulary, ordinary, name, documents) for name, documents in texts.items()},
        terms=[split(vocabulary, term) for term in terms],
    )


def ordinary_ids(vocabulary: Vocabulary) -> list[int]:
    """Return the ids of the tokens that are not special, not added and not spelt <0xNN>."""
    added = vocabulary.tokenizer.get_added_tokens_decoder()
    return [
        token_id
        for token_id, surface in enumerate(vocabulary.surfaces)
        if surface is not None
        and token_id not in added
        and vocabulary.tokens[token_id] != f"<0x{surface.hex().upper()}>"
    ]


def unreachable_ids(vocabulary: Vocabulary, ids: Iterable[int]) -> list[int]:
    """Return the tokens that the model does not make from their own spelling."""
    return out_of_reach(vocabulary.tokenizer, ids)


def split_ids(vocabulary: Vocabulary, ids: Iterable[int]) -> list[int]:
    """Return the tokens that no tried text with their characters becomes.

    Tokens that hold a part of a character are left out: they have no text of their own.
    """
    surfaces = {token_id: text for token_id in ids if (text := _whole_text(vocabulary, token_id))}
    segments = vocabulary.segment_all([text.encode() for text in surfaces.values()])
    left = [token_id for token_id, segment in zip(surfaces, segments, strict=True) if token_id not in segment]
    for context in _CONTEXTS:
        encodings = vocabulary.tokenizer.encode_batch_fast(
            [context.format(surfaces[token_id]) for token_id in left], add_special_tokens=False
        )
        left = [
            token_id for token_id, found in zip(left, encodings, strict=True) if token_id not in found.ids
        ]
    return left


def split(vocabulary: Vocabulary, term: str) -> Split:
    """Return the tokens of a term that follows a space."""
    ids = vocabulary.segment(f" {term}".encode())
    return Split(term, [_readable(vocabulary.surfaces[token_id] or b"") for token_id in ids])


def _text(vocabulary: Vocabulary, ordinary: Sequence[int], name: str, documents: Iterable[str]) -> TextReport:
    counts = count(vocabulary.tokenizer, documents)
    if not counts.tokens:
        raise DataError(f"{name} holds no text to measure the tokenizer on")
    unknown = vocabulary.unknown
    return TextReport(
        bytes=counts.bytes,
        words=counts.words,
        tokens=counts.tokens,
        bytes_per_token=counts.bytes / counts.tokens,
        fertility=counts.tokens / counts.words if counts.words else None,
        unknown=0 if unknown is None else int(counts.uses[unknown]),
        unused=_tokens(vocabulary, [i for i in ordinary if not counts.uses[i]], ordinary),
    )


def _tokens(vocabulary: Vocabulary, ids: Sequence[int], ordinary: Sequence[int]) -> Tokens:
    examples = [vocabulary.tokens[token_id] or "" for token_id in ids[:EXAMPLES]]
    return Tokens(len(ids), len(ids) / max(len(ordinary), 1), examples)


def _whole_text(vocabulary: Vocabulary, token_id: int) -> str | None:
    try:
        return (vocabulary.surfaces[token_id] or b"").decode()
    except UnicodeDecodeError:
        return None


def _readable(surface: bytes) -> str:
    return surface.decode(errors="backslashreplace")
