"""A byte-pair-encoding tokenizer as tokenizer.json holds it: vocabulary, ranked merges, added tokens.

The words that no token of a SentencePiece BPE crosses.

Byte-level tokenizers cut text into words before they merge. Those that come from SentencePiece often do not;
their training did: no token has "▁" behind a letter, and in most, none joins digits, or letters and
punctuation. Where no merge joins two kinds of characters, text can be cut without any change to its tokens,
and new tokens that stay within such words keep to the old ones' habits.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers

from cpt.errors import DataError
from cpt.models.tokenizer import FILE, load_tokenizer, read_data
from tokenizer_tools.byte_encoding import WORD_START

MARK, LETTER, DIGIT, OTHER = "mark", "letter", "digit", "other"
Junction = tuple[str, str]

_CLASSES = {
    MARK: WORD_START,
    LETTER: r"[\p{L}\p{M}]",
    DIGIT: r"\p{Nd}",
    OTHER: rf"[^{WORD_START}\p{{L}}\p{{M}}\p{{Nd}}]",
}


def joined_kinds(merges: Iterable[tuple[str, str]], *, fuses_unknown: bool) -> frozenset[Junction]:
    """Return the kinds of characters that may be adjacent in a token.

    Args:
        merges: Merges of the tokenizer, each a left and a right part.
        fuses_unknown: True if adjacent unknown characters, which may be any but "▁", become one token.
    """
    joined = {junction for left, right in merges for junction in pairwise(map(_kind, left + right))}
    if fuses_unknown:
        kinds = (LETTER, DIGIT, OTHER)
        joined |= {(left, right) for left in kinds for right in kinds}
    return frozenset(joined)


def word_pattern(joined: Collection[Junction]) -> str:
    """Return the regular expression of a word: a longest run of characters whose neighbours may be joined."""
    runs = {
        kind: f"(?>{of_kind}+)" if (kind, kind) in joined else of_kind for kind, of_kind in _CLASSES.items()
    }
    changes = {junction for junction in joined if junction[0] != junction[1]}
    going_on = [
        f"{run}(?={following})" for kind, run in runs.items() if (following := continuation(kind, changes))
    ]
    return f"(?:{'|'.join(going_on)})*(?:{'|'.join(runs.values())})"


def continuation(kind: str, joined: Collection[Junction]) -> str:
    """Return the regular expression of a character that continues a word ending in a kind, or ""."""
    return "|".join(_CLASSES[other] for other in _CLASSES if (kind, other) in joined)


def _kind(character: str) -> str:
    if character == WORD_START:
        return MARK
    category = unicodedata.category(character)
    if category[0] in "LM":
        return LETTER
    return DIGIT if category == "Nd" else OTHER


_PROBE = "one two three"


@dataclass(frozen=True)
class BpeFile:
    """The content of tokenizer.json.

    Attributes:
        data: The whole file.
        vocabulary: Id of every token of the BPE model.
        merges: Pairs (left, right) by rank.
        added: Id of every added token (special tokens among them), by content.
    """

    data: Mapping[str, Any]
    vocabulary: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    added: Mapping[str, int]

    @property
    def ids(self) -> dict[str, int]:
        """Return the id of every token, added tokens included."""
        return {**self.vocabulary, **self.added}

    @property
    def next_id(self) -> int:
        """Return the first id after all used ids."""
        return max(self.ids.values()) + 1

    def barred(self) -> frozenset[int]:
        """Return the ids that no merge may touch: added tokens, the unknown token, byte tokens."""
        model = self.data["model"]
        ids = set(self.added.values())
        if model.get("unk_token") in self.vocabulary:
            ids.add(self.vocabulary[model["unk_token"]])
        if model.get("byte_fallback"):
            ids |= {
                self.vocabulary[token]
                for byte in range(256)
                if (token := f"<0x{byte:02X}>") in self.vocabulary
            }
        return frozenset(ids)

    def looks_up(self, tokenizer: Tokenizer, token: str) -> bool:
        """Return True if text that spells an added token would become it once the vocabulary holds it."""
        return bool(self.data["model"].get("ignore_merges")) and pieces(tokenizer, token) == [token]

    def extended(self, merges: Sequence[tuple[str, str]], tokens: Mapping[str, int]) -> dict[str, Any]:
        """Return the file's content with merges appended and new tokens in the vocabulary.

        Added tokens enter the model's vocabulary too: on loading, `tokenizers` numbers those that are not
        in it by the size of the vocabulary, so they would move as soon as it grows.
        """
        model = dict(self.data["model"])
        vocabulary = {**self.vocabulary, **self.added, **tokens}
        model["vocab"] = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
        as_text = bool(model["merges"]) and isinstance(model["merges"][0], str)
        new = [f"{left} {right}" if as_text else [left, right] for left, right in merges]
        model["merges"] = [*model["merges"], *new]
        return {**self.data, "model": model}


class MergeTable:
    """Ranked merges over token ids."""

    def __init__(self, file: BpeFile) -> None:
        ids = file.vocabulary
        self._ranks: dict[tuple[int, int], int] = {}
        self._products: list[int] = []
        for left, right in file.merges:
            self.add((ids[left], ids[right]), ids[left + right])

    def add(self, pair: tuple[int, int], product: int) -> None:
        """Append a merge."""
        self._ranks.setdefault(pair, len(self._products))
        self._products.append(product)

    def segment(self, tokens: Sequence[int]) -> list[int]:
        """Apply merges, the best-ranked and leftmost first, until none applies."""
        symbols = list(tokens)
        while True:
            ranked = (
                (self._ranks[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in self._ranks
            )
            best = min(ranked, default=None)
            if best is None:
                return symbols
            rank, at = best
            symbols[at : at + 2] = [self._products[rank]]


def read_bpe(folder: Path) -> BpeFile:
    """Read a folder's tokenizer.json.

    Raises:
        DataError: The folder has none, or continued BPE cannot extend the tokenizer.
    """
    data = read_data(folder)
    if reason := _why_unsupported(data, folder):
        raise DataError(
            f"the tokenizer in {folder / FILE} cannot be extended by continued BPE: {reason}",
            hint="Leave the vocabulary stage out, or start from a model with another tokenizer.",
        )
    model = data["model"]
    return BpeFile(
        data=data,
        vocabulary=model["vocab"],
        merges=merges_of(model),
        added={token["content"]: token["id"] for token in data.get("added_tokens") or []},
    )


def splits_words(tokenizer: Tokenizer) -> bool:
    """Return True if the tokenizer's own pre-tokenizer cuts text into words."""
    return len(pieces(tokenizer, _PROBE)) > 1


def marks_words(tokenizer: Tokenizer) -> bool:
    """Return True if the tokenizer writes spaces as "▁", as SentencePiece does."""
    return any(WORD_START in piece for piece in pieces(tokenizer, _PROBE))


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the pieces of a text that the tokenizer's model receives."""
    normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    if tokenizer.pre_tokenizer is None:
        return [normal]
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def cut_words(tokenizer: Tokenizer) -> Tokenizer:
    """Return a BPE tokenizer of the same tokens that cuts text into words first (`word_pattern`)."""
    if not marks_words(tokenizer):
        return tokenizer
    data = json.loads(tokenizer.to_str())
    if not splits_words(tokenizer):
        data["model"]["ignore_merges"] = False  # else it looks up whole texts, which are not cut
    copy = Tokenizer.from_str(json.dumps(data))
    copy.encode_special_tokens = tokenizer.encode_special_tokens
    split = pre_tokenizers.Split(Regex(word_pattern(joined_in(data["model"]))), "isolated")
    own = tokenizer.pre_tokenizer
    copy.pre_tokenizer = split if own is None else pre_tokenizers.Sequence([own, split])
    return copy


def joined_in(model: Mapping[str, Any]) -> frozenset[Junction]:
    """Return the kinds of characters that may be adjacent in tokens of a tokenizer.json's model."""
    fuses_unknown = bool(model.get("fuse_unk")) and not model.get("byte_fallback")
    return joined_kinds(merges_of(model), fuses_unknown=fuses_unknown)


def merges_of(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer.json's model by rank, each a left and a right part."""
    return [_pair(merge) for merge in model["merges"]]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _why_unsupported(data: Mapping[str, Any], folder: Path) -> str | None:
    model = data.get("model") or {}
    if model.get("type") != "BPE":
        return f"its model is {model.get('type') or 'of no stated type'}, not BPE"
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "it marks subwords with a prefix or a suffix"
    if model.get("dropout"):
        return "it drops merges at random (dropout)"
    tokenizer = load_tokenizer(folder)
    if not splits_words(tokenizer) and not marks_words(tokenizer):
        return "it neither splits text into words nor marks their starts"
    return None
