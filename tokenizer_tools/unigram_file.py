"""Read and extend a Unigram tokenizer in tokenizer.json: scored pieces, found in a word by the best path.

A piece's id is its index in the list. A path's score is the sum of its pieces' scores. A character that is
no piece costs the lowest score of the list minus 10, so a new lowest score changes other segmentations too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cpt.errors import DataError
from cpt.models.tokenizer import FILE, load_tokenizer, read_data
from tokenizer_tools.bpe_file import splits_words

UNKNOWN_PENALTY = 10.0
"""Distance of an unknown character's score below the lowest score, in log-probability."""

_MARGIN = 1.0


class BestPath:
    """Segmentation of a word into the pieces with the highest sum of scores, as in the `tokenizers` library.

    Of equal paths the one with the longest last piece wins, and so on backwards. Adjacent unknown characters
    are one unknown token.

    Attributes:
        scores: Score of every piece; may change between calls.
        unknown: Token of unknown characters.
    """

    def __init__(self, scores: dict[str, float], unknown: str, unknown_score: float) -> None:
        self.scores = scores
        self.unknown = unknown
        self._unknown_score = unknown_score
        self._longest = max(map(len, scores), default=1)

    def segment(self, word: str) -> list[str]:
        """Return the pieces of the best path."""
        return self.best(word)[0]

    def best(self, word: str) -> tuple[list[str], float]:
        """Return the pieces of the best path, and its score."""
        sums, starts = [0.0] + [-math.inf] * len(word), [0] * (len(word) + 1)
        known = [True] * (len(word) + 1)
        scores = self.scores
        for start in range(len(word)):
            reached = sums[start]
            for end in range(start + 1, min(len(word), start + self._longest) + 1):
                score = scores.get(word[start:end])
                if score is not None and reached + score > sums[end]:
                    sums[end], starts[end], known[end] = reached + score, start, True
            end = start + 1
            if word[start:end] not in scores and reached + self._unknown_score > sums[end]:
                sums[end], starts[end], known[end] = reached + self._unknown_score, start, False
        return self._trace(word, starts, known), sums[-1]

    def add(self, piece: str, score: float) -> None:
        """Add a piece."""
        self.scores[piece] = score
        self._longest = max(self._longest, len(piece))

    def _trace(self, word: str, starts: Sequence[int], known: Sequence[bool]) -> list[str]:
        pieces: list[str] = []
        end = len(word)
        while end:
            piece = word[starts[end] : end] if known[end] else self.unknown
            if known[end] or not pieces or pieces[-1] is not self.unknown:
                pieces.append(piece)
            end = starts[end]
        return pieces[::-1]


@dataclass(frozen=True)
class UnigramFile:
    """The content of tokenizer.json.

    Attributes:
        data: The whole file.
        pieces: Pairs (piece, score) by id.
        added: Id of every added token (special tokens among them), by content.
    """

    data: Mapping[str, Any]
    pieces: Sequence[tuple[str, float]]
    added: Mapping[str, int]

    @cached_property
    def scores(self) -> dict[str, float]:
        """Return the score of every piece."""
        return dict(self.pieces)

    @property
    def lowest(self) -> float:
        """Return the lowest score, which sets the cost of unknown characters."""
        return min(score for _, score in self.pieces)

    @property
    def unknown(self) -> str:
        """Return the token of unknown characters, or ""."""
        place = self.data["model"].get("unk_id")
        return "" if place is None else self.pieces[place][0]

    @property
    def next_id(self) -> int:
        """Return the first id after all used ids."""
        return max(len(self.pieces) - 1, *self.added.values(), 0) + 1

    def barred(self) -> frozenset[str]:
        """Return the pieces that are no text: added tokens, the unknown token, byte tokens."""
        barred = {*self.added, self.unknown}
        if self.data["model"].get("byte_fallback"):
            barred |= {f"<0x{byte:02X}>" for byte in range(256)}
        return frozenset(barred)

    def best_path(self) -> BestPath:
        """Return the segmentation of words by this file."""
        return BestPath(dict(self.scores), self.unknown, self.lowest - UNKNOWN_PENALTY)

    def extended(self, new: Iterable[tuple[str, float]]) -> dict[str, Any]:
        """Return the file's content with pieces appended, at ids from `next_id`.

        Added tokens that lie behind the pieces enter the list, at their ids: on loading, `tokenizers` numbers
        those that are not in it by the length of the list, so they would move as soon as it grows. There
        they get a score below that of the path over their own spelling, so that no text becomes one of them.

        Args:
            new: New pieces with their scores, none below `lowest`.

        Raises:
            DataError: An added token behind the pieces cannot be kept out of text.
        """
        new = list(new)
        behind = sorted(
            (token_id, token) for token, token_id in self.added.items() if token_id >= len(self.pieces)
        )
        path = self.best_path()
        for piece, score in new:
            path.add(piece, score)
        kept = [(token, self._score_out_of_text(token, path)) for _, token in behind]
        if any(score < self.lowest for _, score in kept):
            self._require_unknown_is_irrelevant(path.scores)
        model = {**self.data["model"], "vocab": [list(item) for item in (*self.pieces, *kept, *new)]}
        return {**self.data, "model": model}

    def _score_out_of_text(self, token: str, path: BestPath) -> float:
        pieces, score = path.best(token)
        if path.unknown in pieces:
            raise DataError(
                f"the added token {token!r} lies behind the pieces, where new ones go, and has characters "
                "that are no pieces: as a piece it would be cut out of text",
                hint="Remove the token from the tokenizer, or leave the vocabulary as it is.",
            )
        return score - _MARGIN

    def _require_unknown_is_irrelevant(self, scores: Mapping[str, float]) -> None:
        """Raise unless the cost of an unknown character is the same for all paths.

        It is the same if every character of a piece is a piece: an unknown one is then in all paths or none.
        """
        ordinary = scores.keys() - self.barred()
        if stray := {character for piece in ordinary for character in piece} - scores.keys():
            raise DataError(
                f"added tokens lie behind the pieces, where new ones go; to make room for them changes what "
                f"unknown characters cost, and characters such as {min(stray)!r} are in pieces but are none",
                hint="Remove the added tokens from the tokenizer, or leave the vocabulary as it is.",
            )


def read_unigram(folder: Path) -> UnigramFile:
    """Read a folder's tokenizer.json.

    Raises:
        DataError: The folder has none, or it is no Unigram, or it does not cut text into words.
    """
    file, data, tokenizer = folder / FILE, read_data(folder), load_tokenizer(folder)
    model = data["model"]
    if model.get("type") != "Unigram":
        raise DataError(f"the tokenizer in {file} is {model.get('type')}, not Unigram")
    if not splits_words(tokenizer):
        raise DataError(f"the tokenizer in {file} has no pre-tokenizer that cuts text into words")
    return UnigramFile(
        data=data,
        pieces=[(piece, float(score)) for piece, score in model["vocab"]],
        added={token.content: token_id for token_id, token in tokenizer.get_added_tokens_decoder().items()},
    )
