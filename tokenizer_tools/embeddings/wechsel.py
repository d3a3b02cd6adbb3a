"""Make a new token of the source tokens with similar meaning in word vectors.

Source: WECHSEL, Minixhofer, Paischer, Rekabsaz (arXiv 2112.06598). Every token of both vocabularies gets the
word vector of its spelling without spaces, made of character n-grams if the spelling is no word. A
new token is the mean of the source tokens nearest by cosine, weighted by softmax; one without a vector is
drawn from N(mean, std) of the source rows.

If both vocabularies are for one language (a domain's terms) one space of word vectors is enough. For another
language, text of the source's language makes a second space, and the orthogonal map that fits a dictionary
best (Procrustes) turns the target's vectors into it. Without a dictionary, words in both texts are their own
translations. The paper takes ready-made word vectors and replaces every row; here vectors are learned from
the texts, and shared tokens keep their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.linalg import orthogonal_procrustes

from cpt.errors import DataError, StageFailed
from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._weights import neighbour_weights, placed, top_softmax, used_ids
from tokenizer_tools.embeddings._word_vectors import (
    VectorParameters,
    WordVectors,
    texts_of,
    weighted_or_normal,
    word_space,
)
from tokenizer_tools.transfer import Transfer

Pair = tuple[str, str]
"""A source word and its translation, a target word."""


class Parameters(VectorParameters):
    """Parameters of WECHSEL."""

    neighbours: int = Field(10, gt=0, description="Number of source tokens that make a new one.")
    temperature: float = Field(0.1, gt=0, description="Temperature of the softmax over their cosines.")
    source_texts: Path | None = Field(
        None, description="Text in the source's language, one document a line, if it is another language."
    )
    dictionary: Path | None = Field(
        None, description="Source words and translations, one pair a line; by default words in both texts."
    )

    @model_validator(mode="after")
    def _dictionary_has_a_language(self) -> Parameters:
        if self.dictionary is not None and self.source_texts is None:
            raise ValueError("a dictionary needs source_texts, the text in its first language")
        return self


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the rule of the softmax of cosines to the nearest source tokens."""
    space = word_space(texts_of(transfer), parameters, transfer.seed)
    new_ND, known_N = space.of_any(_words([transfer.target.surfaces[i] for i in transfer.new]))
    if parameters.source_texts is not None:
        target = space
        space = word_space(partial(_lines, parameters.source_texts), parameters, transfer.seed)
        new_ND = new_ND @ rotation(space, target, _pairs(space, target, parameters.dictionary))
    source_VD, known_V = space.of_any(_words(transfer.source.surfaces))
    known_N &= known_V.any()
    weights_NV = placed(
        neighbour_weights(
            torch.from_numpy(new_ND[known_N]),
            torch.from_numpy(source_VD[known_V]),
            partial(top_softmax, count=parameters.neighbours, temperature=parameters.temperature),
        ),
        np.flatnonzero(known_N),
        np.flatnonzero(known_V),
        (len(new_ND), len(source_VD)),
    )
    return weighted_or_normal(weights_NV, ~known_N, used_ids(transfer.source), transfer.seed)


def rotation(source: WordVectors, target: WordVectors, pairs: Sequence[Pair]) -> np.ndarray:
    """Fit the orthogonal map [D, D] that turns the target's unit vectors (rows) into the source's.

    Raises:
        StageFailed: No pair has vectors on both sides.
    """
    source_PD, in_source = source.of_learned([word for word, _ in pairs])
    target_PD, in_target = target.of_learned([word for _, word in pairs])
    both = in_source & in_target
    if not both.any():
        raise StageFailed(
            "no word of the one text has a translation in the other, so their vectors cannot be aligned",
            hint="Give a dictionary of the texts' words, more text, or a lower min_count.",
        )
    found: np.ndarray = orthogonal_procrustes(_units(target_PD[both]), _units(source_PD[both]))[0]
    return found


def _pairs(source: WordVectors, target: WordVectors, dictionary: Path | None) -> list[Pair]:
    if dictionary is None:
        return [(word, word) for word in target.places if word in source.places]
    pairs = []
    for number, line in enumerate(_lines(dictionary), start=1):
        words = line.split("\t") if "\t" in line else line.split()
        if len(words) != 2:
            raise DataError(
                f"{dictionary}:{number}: a line of a dictionary is a source word and its translation"
            )
        pairs.append((words[0], words[1]))
    return pairs


def _words(surfaces: Sequence[bytes | None]) -> list[str | None]:
    """Return spellings without spaces around them; None if the bytes are no text."""
    words: list[str | None] = []
    for surface in surfaces:
        try:
            words.append((surface or b"").decode().strip() or None)
        except UnicodeDecodeError:
            words.append(None)
    return words


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from (text for line in lines if (text := line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}") from error


def _units(vectors_PD: np.ndarray) -> np.ndarray:
    return vectors_PD / np.linalg.norm(vectors_PD, axis=1, keepdims=True)


METHOD = Method(
    summary="source tokens of similar meaning, by word vectors and softmax",
    reference="https://arxiv.org/abs/2112.06598",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
