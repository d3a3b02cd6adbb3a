"""Read from a tokenizer's files what decides which tokens it makes: words, merges, spaces, special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import FILE
from tokenizer_tools.bpe_file import merges_of
from tokenizer_tools.byte_encoding import WORD_START
from tokenizer_tools.canonical.characters import NUMERIC, Characters, spelt_by_bytes
from tokenizer_tools.canonical.cuts import Cuts
from tokenizer_tools.canonical.merge_pairs import MergePairs, ranked
from tokenizer_tools.canonical.pattern import Pattern, compile_pattern, single
from tokenizer_tools.extension.ngram_pre_tokenizer import GPT2_PATTERN
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

Lead = Literal["always", "missing", "never"]
_PRIVATE = 0xF0000
"""Code point from which on byte tokens are spelt for the merges, which have none of them."""

_UNMERGED = chr(_PRIVATE + 256) * 2
"""Spelling of tokens with a character that is no symbol, which merges cannot make."""

_WORDS = f"{WORD_START}[^{WORD_START}]*|[^{WORD_START}]+"


@dataclass(frozen=True)
class BpeParts:
    """A BPE tokenizer taken apart.

    Attributes:
        folder: Folder of the tokenizer.
        tokenizer: Tokenizer that reads special tokens in a text as plain text.
        ids: [V] Ids of the tokens of text, in the order of their bytes.
        surfaces: [V] Their bytes, ascending.
        pairs: Pairs of them that may stand side by side within a piece.
        whole: [V] True for tokens that no merges make, and that stand for a whole piece that spells them.
        characters: Classes of characters.
        cuts: States of the pre-tokenizer.
        lead: Space put before a text: always, if it is missing, or never.
        composes: True if a text is put into Unicode's normal form C first.
        ends: Ids of special tokens, with which a text ends.
    """

    folder: Path
    tokenizer: Tokenizer
    ids: np.ndarray
    surfaces: Sequence[bytes]
    pairs: MergePairs
    whole: np.ndarray
    characters: Characters
    cuts: Cuts
    lead: Lead
    composes: bool
    ends: frozenset[int]


def read_bpe_parts(folder: Path) -> BpeParts:
    """Read the tokenizer of a folder.

    Raises:
        DataError: It is no BPE, or it cuts or changes text in a way that is not followed.
    """
    vocabulary = read_vocabulary(folder)
    if vocabulary.kind not in ("byte-level BPE", "SentencePiece BPE"):
        _refuse(folder, f"it is a {vocabulary.kind}")
    data = json.loads(vocabulary.tokenizer.to_str())
    model = data["model"]
    if model.get("dropout"):
        _refuse(folder, "it drops merges at random (dropout)")
    if model.get("continuing_subword_prefix"):
        _refuse(folder, "it marks tokens that continue a word")
    marks = vocabulary.kind == "SentencePiece BPE"
    lead, patterns = _lead_and_patterns(folder, data, marks)
    alphabet = _alphabet(vocabulary) if marks else frozenset[str]()
    tokens = sorted(_text_tokens(data, vocabulary, alphabet, marks), key=lambda token: token.surface)
    pairs = MergePairs([token.spelling for token in tokens], ranked(merges_of(model)))
    if not model.get("ignore_merges"):
        tokens = [token for token, kept in zip(tokens, pairs.reachable, strict=True) if kept]
        pairs = pairs.restricted(pairs.reachable)
    for one, other in pairwise(tokens):
        if one.surface == other.surface:
            _refuse(folder, f"two of its tokens stand for {one.surface!r}")
    surfaces = [token.surface for token in tokens]
    by_bytes = spelt_by_bytes({each[0] for each in surfaces if len(each) == 1}, alphabet)
    if marks and not model.get("byte_fallback"):
        by_bytes[:] = False
    spelt = by_bytes.copy()
    spelt[[ord(each) for each in alphabet if each != WORD_START]] = True
    atoms = sorted({atom for pattern in patterns for atom in pattern.atoms})
    characters = Characters(atoms, spelt, by_bytes, (" ", WORD_START) if marks else None)
    return BpeParts(
        folder,
        vocabulary.tokenizer,
        np.array([token.id for token in tokens], dtype=np.int64),
        surfaces,
        pairs,
        ~pairs.reachable,
        characters,
        Cuts(patterns, characters, atoms),
        lead,
        any(step["type"] == "NFC" for step in _flat(data.get("normalizer"), "normalizers")),
        frozenset(vocabulary.special.values())
        - ({vocabulary.unknown} if vocabulary.unknown is not None else set()),
    )


def _refuse(folder: Path, reason: str) -> NoReturn:
    raise DataError(
        f"exact probabilities of bytes cannot be had with the tokenizer in {folder / FILE}: {reason}",
        hint="They are known for byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and for SentencePiece BPE "
        "(Llama 2, Mistral).",
    )


@dataclass(frozen=True)
class _Token:
    id: int
    surface: bytes
    spelling: str


def _text_tokens(
    data: Mapping[str, Any], vocabulary: Vocabulary, alphabet: frozenset[str], marks: bool
) -> Iterator[_Token]:
    """Yield the tokens that may stand for text, with their spelling for the merges.

    Args:
        alphabet: Characters that have a token, of a tokenizer that spells others by bytes.
        marks: True if it writes spaces as "▁".
    """
    model = data["model"]
    added = {token["id"] for token in data["added_tokens"]}
    of_bytes = {model["vocab"].get(f"<0x{byte:02X}>"): byte for byte in range(256)}
    for token, index in model["vocab"].items():
        surface = vocabulary.surfaces[index]
        if index in added or not surface or (marks and " " in token):
            continue
        spelling = token
        if marks and model.get("byte_fallback") and (byte := of_bytes.get(index)) is not None:
            if byte < 0x80 and chr(byte) in alphabet:
                continue  # the character is never spelt by bytes
            spelling = chr(_PRIVATE + byte)
        elif not all(character in model["vocab"] for character in token):
            spelling = _UNMERGED
        yield _Token(index, surface, spelling)


def _alphabet(vocabulary: Vocabulary) -> frozenset[str]:
    """Return the characters that have a token, " " for "▁" too."""
    special = set(vocabulary.special)
    found = {token for token in vocabulary.tokens if token and len(token) == 1 and token not in special}
    return frozenset(found | ({" ", WORD_START} if WORD_START in found else set()))


def _lead_and_patterns(folder: Path, data: Mapping[str, Any], marks: bool) -> tuple[Lead, list[Pattern]]:
    """Return the space put before a text, and the expressions that cut it."""
    lead = _normalizer_lead(folder, data.get("normalizer"), marks)
    patterns: list[Pattern] = []
    steps = list(_flat(data.get("pre_tokenizer"), "pretokenizers"))
    for number, step in enumerate(steps):
        kind = step["type"]
        if kind == "Metaspace" and marks and not patterns:
            scheme = step.get("prepend_scheme", "always")
            lead = lead if scheme == "never" or lead == "always" else "missing"
            if step.get("split", True):
                patterns.append(compile_pattern(_WORDS))
        elif kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            patterns.append(_split_pattern(step["pattern"]))
        elif kind == "Digits":
            patterns.append(single(NUMERIC, repeated=not step["individual_digits"]))
        elif kind == "ByteLevel" and number == len(steps) - 1 and not step["add_prefix_space"]:
            if step.get("use_regex", True):
                patterns.append(compile_pattern(GPT2_PATTERN))
        else:
            _refuse(folder, f"its pre-tokenizer has a step {json.dumps(step, ensure_ascii=False)[:200]}")
    return lead, patterns


def _split_pattern(pattern: Mapping[str, str]) -> Pattern:
    if "Regex" in pattern:
        return compile_pattern(pattern["Regex"])
    return compile_pattern("".join(f"\\{each}" if not each.isalnum() else each for each in pattern["String"]))


def _normalizer_lead(folder: Path, normalizer: Mapping[str, Any] | None, marks: bool) -> Lead:
    lead: Lead = "never"
    for step in _flat(normalizer, "normalizers"):
        if marks and step["type"] == "Prepend" and step["prepend"] == WORD_START:
            lead = "always"
        elif step["type"] != "NFC" and not (
            marks
            and step["type"] == "Replace"
            and step["content"] == WORD_START
            and step["pattern"] == {"String": " "}
        ):
            _refuse(folder, f"its normalizer has a step {json.dumps(step, ensure_ascii=False)[:200]}")
    return lead


def _flat(component: Mapping[str, Any] | None, parts: str) -> Iterator[Mapping[str, Any]]:
    if component is None:
        return
    if component["type"] != "Sequence":
        yield component
        return
    for part in component[parts]:
        yield from _flat(part, parts)
