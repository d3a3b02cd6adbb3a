"""Read and extend a WordPiece tokenizer in tokenizer.json: pieces, found by greedy longest match."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import FILE, load_tokenizer, read_data
from tokenizer_tools.bpe_file import pieces, splits_words


class LongestMatch:
    """Segmentation of a word from the left into longest pieces, as in the `tokenizers` library.

    A word with a part that is no piece, or with too many characters, is one unknown token.

    Attributes:
        pieces: Vocabulary; may change between calls.
        prefix: Start of a piece that continues a word.
        unknown: Token of words that cannot be segmented.
    """

    def __init__(self, pieces: set[str], prefix: str, unknown: str, most_characters: int) -> None:
        self.pieces = pieces
        self.prefix = prefix
        self.unknown = unknown
        self._most_characters = most_characters
        self._longest = max(map(len, pieces), default=1)

    def segment(self, word: str) -> list[str]:
        """Return the pieces of a word."""
        if len(word) > self._most_characters:
            return [self.unknown]
        pieces: list[str] = []
        start = 0
        while start < len(word):
            piece = self._longest_at(word, start)
            if piece is None:
                return [self.unknown]
            pieces.append(piece)
            start += len(self.text(piece) if start else piece)
        return pieces

    def text(self, piece: str) -> str:
        """Return the text of a piece, without the prefix."""
        return piece.removeprefix(self.prefix)

    def add(self, piece: str) -> None:
        """Add a piece."""
        self.pieces.add(piece)
        self._longest = max(self._longest, len(piece))

    def _longest_at(self, word: str, start: int) -> str | None:
        prefix = self.prefix if start else ""
        for end in range(min(len(word), start + self._longest), start, -1):
            if (piece := prefix + word[start:end]) in self.pieces:
                return piece
        return None


@dataclass(frozen=True)
class WordPieceFile:
    """The content of tokenizer.json.

    Attributes:
        data: The whole file.
        vocabulary: Id of every piece.
        added: Id of every added token (special tokens among them), by content.
    """

    data: Mapping[str, Any]
    vocabulary: Mapping[str, int]
    added: Mapping[str, int]

    @property
    def next_id(self) -> int:
        """Return the first id after all used ids."""
        return max({**self.vocabulary, **self.added}.values()) + 1

    def barred(self) -> frozenset[str]:
        """Return the pieces that are no text: added tokens, the unknown token."""
        return frozenset({*self.added, self.data["model"]["unk_token"]})

    def longest_match(self) -> LongestMatch:
        """Return the segmentation of words by this file."""
        model = self.data["model"]
        return LongestMatch(
            pieces=set(self.vocabulary),
            prefix=model["continuing_subword_prefix"],
            unknown=model["unk_token"],
            most_characters=model["max_input_chars_per_word"],
        )

    def extended(self, new: Mapping[str, int]) -> dict[str, Any]:
        """Return the file's content with new pieces.

        Added tokens enter the vocabulary too: on loading, `tokenizers` numbers those that are not in it by
        the size of the vocabulary, so they would move as soon as it grows.

        Raises:
            DataError: An added token outside the vocabulary would be found inside words there.
        """
        tokenizer = Tokenizer.from_str(json.dumps(self.data))
        for token in self.added.keys() - self.vocabulary.keys():
            if pieces(tokenizer, token) == [token]:
                raise DataError(
                    f"the added token {token!r} lies behind the vocabulary, where new tokens go; inside the "
                    "vocabulary it would be taken for a part of longer words",
                    hint="Remove the token from the tokenizer, or leave the vocabulary as it is.",
                )
        vocabulary = sorted({**self.vocabulary, **self.added, **new}.items(), key=lambda item: item[1])
        return {**self.data, "model": {**self.data["model"], "vocab": dict(vocabulary)}}


def read_wordpiece(folder: Path) -> WordPieceFile:
    """Read a folder's tokenizer.json.

    Raises:
        DataError: The folder has none, or it is no WordPiece, or it does not cut text into words.
    """
    file, data, tokenizer = folder / FILE, read_data(folder), load_tokenizer(folder)
    if data["model"].get("type") != "WordPiece":
        raise DataError(f"the tokenizer in {file} is {data['model'].get('type')}, not WordPiece")
    if not splits_words(tokenizer):
        raise DataError(f"the tokenizer in {file} has no pre-tokenizer that cuts text into words")
    return WordPieceFile(
        data=data,
        vocabulary=data["model"]["vocab"],
        added={token.content: token_id for token_id, token in tokenizer.get_added_tokens_decoder().items()},
    )
