"""Spell tokens by the source tokenizer's tokens: the input of the hypernetwork.

Source: arXiv 2405.07883, section 3. Bytes that the source tokenizer cannot spell have rows of their own, and
the hypernetwork learns these. Their ids follow those of the source vocabulary, one per byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from tokenizer_tools.vocabulary import Vocabulary

FALLBACK_ROWS = 256
"""Number of rows for bytes that the source tokenizer cannot spell."""


@dataclass(frozen=True)
class SurfaceForms:
    """Spellings of N tokens in L pieces at most.

    Attributes:
        ids_NL: Int64 ids of the pieces; 0 behind the last one. Ids from the source vocabulary's size on are
            bytes.
        mask_NL: True where there is a piece. Every row starts with one.
        truncated: Number of tokens whose last pieces were cut off.
    """

    ids_NL: Tensor
    mask_NL: Tensor
    truncated: int

    def is_source_token(self, size: int) -> Tensor:
        """Return True [N] for tokens that are one token of a source vocabulary with `size` ids."""
        found: Tensor = (self.mask_NL.sum(1) == 1) & (self.ids_NL[:, 0] < size)
        return found

    def at(self, places_P: Tensor) -> SurfaceForms:
        """Return the spellings of some tokens; the number of truncated ones stays that of all."""
        return SurfaceForms(self.ids_NL[places_P], self.mask_NL[places_P], self.truncated)


def surface_forms(
    source: Vocabulary, surfaces: Sequence[bytes], length: int, *, one_word: bool = False
) -> SurfaceForms:
    """Spell tokens by the source tokenizer.

    Args:
        source: Vocabulary of the source tokenizer.
        surfaces: Bytes that each token stands for, none of them empty.
        length: Largest number of pieces L.
        one_word: True if each surface lies within one word, as in `Vocabulary.segment_all`.

    Raises:
        ValueError: A surface is empty.
    """
    pieces = source.segment_all(surfaces, one_word=one_word)
    return from_pieces(pieces, surfaces, len(source.tokens), length)


def from_pieces(
    pieces: Sequence[Sequence[int]], surfaces: Sequence[bytes], source_size: int, length: int
) -> SurfaceForms:
    """Return the spellings that these pieces make; tokens without pieces are spelt byte by byte.

    Args:
        pieces: Source ids of each token; empty if the source tokenizer cannot spell it.
        surfaces: Bytes that each token stands for, none of them empty.
        source_size: Number of ids of the source vocabulary, which the ids of bytes follow.
        length: Largest number of pieces L.

    Raises:
        ValueError: A surface is empty.
    """
    if not all(surfaces):
        raise ValueError("a token without text has no surface form")
    spelt = [
        ids or [source_size + byte for byte in surface[: length + 1]]
        for ids, surface in zip(pieces, surfaces, strict=True)
    ]
    counts_N = _lengths(spelt)
    lengths_N = np.minimum(counts_N, length)
    mask_NL = np.arange(length) < lengths_N[:, None]
    ids_NL = np.zeros((len(spelt), length), np.int64)
    # A boolean mask is filled row by row, so the ids in order fall on the right places.
    ids_NL[mask_NL] = np.fromiter(chain.from_iterable(ids[:length] for ids in spelt), np.int64)
    return SurfaceForms(torch.from_numpy(ids_NL), torch.from_numpy(mask_NL), int((counts_N > length).sum()))


def _lengths(sequences: Iterable[Sequence[int]]) -> np.ndarray:
    return np.fromiter(map(len, sequences), np.int64)
