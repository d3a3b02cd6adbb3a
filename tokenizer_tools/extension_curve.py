"""Measure what N more tokens would save and cost, for many N at once, without building the tokenizers.

Continued BPE is greedy, so one long run of it holds every shorter one as its first merges. Merges rank
after all older ones, so text that is segmented for one N is segmented on for the next.

Training on a byte is counted as 6 * P / (bytes per token) floating-point operations, forward and backward.
P is the number of parameters that multiply: the output rows, but not the input rows, which are looked up
(Kaplan et al., arXiv 2001.08361). Attention over the context is left out, as there; with fewer tokens it
gets cheaper too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from cpt.models.vocabulary import vocabulary_tensors
from cpt.models.weights import stored_tensors
from tokenizer_tools import bpe_file
from tokenizer_tools.bpe_file import BpeFile
from tokenizer_tools.extension.continued_bpe import (
    Merge,
    MergeTable,
    Word,
    count_segmented_words,
    learn_up_to,
)
from tokenizer_tools.measure import count


@dataclass(frozen=True)
class CurvePoint:
    """Measurements of a tokenizer extended by some tokens.

    Attributes:
        tokens: Number of new tokens.
        bytes_per_token: Bytes per token of held-out text.
        tokens_saved: Share of the tokens of held-out text that the extension saves.
        rarest: Frequency in the training text of the rarest new token when it was learned; None without new
            tokens. A rare token is hard to train.
        added_parameters: Number of new parameters in input and output embedding; None without a model.
        compute_per_byte: Floating-point operations to train on a byte of held-out text, relative to no
            extension; None without a model.
    """

    tokens: int
    bytes_per_token: float
    tokens_saved: float
    rarest: int | None
    added_parameters: int | None
    compute_per_byte: float | None


@dataclass(frozen=True)
class _Model:
    """Numbers of parameters that multiply, of parameters per token, and of those per token that multiply."""

    multiplying: int
    per_token: int
    multiplying_per_token: int

    def compute(self, tokens: int) -> float:
        """Compute the operations per token of text with new tokens, relative to none."""
        return 1 + tokens * self.multiplying_per_token / self.multiplying


def extension_curve(
    folder: Path,
    train: Iterable[str],
    heldout: Sequence[str],
    sizes: Sequence[int],
    *,
    min_frequency: int = 2,
    model: Path | None = None,
) -> list[CurvePoint]:
    """Measure extensions of a tokenizer by continued BPE without building them.

    Args:
        folder: Tokenizer folder with a BPE tokenizer.json.
        train: Texts to learn new tokens from.
        heldout: Other texts to measure on.
        sizes: Numbers of new tokens.
        min_frequency: Lowest frequency of a pair that is merged.
        model: Folder of the model that would get the tokens.

    Returns:
        A point for no new tokens, then one for each size, ascending. If `train` has too few frequent pairs
        for a size, the last point is for all tokens that it yields.

    Raises:
        DataError: The tokenizer cannot be extended by continued BPE, or `heldout` holds no text.
    """
    file, tokenizer = bpe_file.read_bpe(folder), load_tokenizer(folder)
    now = count(tokenizer, heldout)
    if not now.tokens:
        raise DataError("the held-out text is empty: there is nothing to measure")
    merges = learn_up_to(file, count_segmented_words(tokenizer, train), max(sizes, default=0), min_frequency)
    counts = [merge.count for merge in merges if merge.new]
    facts = _model(model) if model else None
    reached = sorted({0, *(min(size, len(counts)) for size in sizes)})
    saved = _tokens_saved(file, merges, count_segmented_words(tokenizer, heldout), reached)
    return [
        CurvePoint(
            tokens=size,
            bytes_per_token=now.bytes / (now.tokens - fewer),
            tokens_saved=fewer / now.tokens,
            rarest=min(counts[:size], default=None),
            added_parameters=size * facts.per_token if facts else None,
            compute_per_byte=facts.compute(size) * (1 - fewer / now.tokens) if facts else None,
        )
        for size, fewer in zip(reached, saved, strict=True)
    ]


def _tokens_saved(
    file: BpeFile, merges: Iterable[Merge], words: Mapping[Word, int], sizes: Iterable[int]
) -> Iterator[int]:
    """Yield the number of tokens that each ascending number of new tokens saves on words."""
    table, ids = MergeTable(file), file.ids
    remaining, new, before = iter(merges), 0, _tokens(words)
    for size in sizes:
        while new < size:
            merge = next(remaining)
            ids[merge.token] = merge.token_id
            table.add((ids[merge.left], ids[merge.right]), merge.token_id)
            new += merge.new
        segmented: Counter[Word] = Counter()
        for word, times in words.items():
            segmented[tuple(table.segment(word))] += times
        words = segmented
        yield before - _tokens(words)


def _tokens(words: Mapping[Word, int]) -> int:
    return sum(len(word) * times for word, times in words.items())


def _model(folder: Path) -> _Model:
    tensors, stored = vocabulary_tensors(folder), stored_tensors(folder)
    copies = {tensors.output} if tensors.tied else set()
    looked_up = copies if tensors.tied else {tensors.input}
    rows = {name: prod(stored[name].shape[1:]) for name in tensors.names if name not in copies}
    return _Model(
        multiplying=sum(prod(tensor.shape) for name, tensor in stored.items() if name not in looked_up),
        per_token=sum(rows.values()),
        multiplying_per_token=sum(size for name, size in rows.items() if name not in looked_up),
    )
