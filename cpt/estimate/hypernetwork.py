"""Operations of a training: matrix products of the hypernetwork, and of the model that reads its rows.

Shapes: N predicted tokens, P pieces of them, U different pieces, A the sum of squares of the numbers of
pieces of tokens with several; C width of the encoder, F of its feed-forward layers, D width of all source
rows of a token side by side, H width of a matrix; T tokens that the model reads, W rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

LENGTHS = (1, 1, 1, 2, 2, 2, 3, 4)
"""Assumed numbers of pieces of tokens, in turn. Measured means with SmolLM2's tokenizer: 1.6 and 1.8 of
sampled vocabularies of 4,096 and 16,384 tokens, 1.4 of Mistral's, 2.2 of Llama 3's."""

_DIFFERENT = 4
"""Assumed pieces for each different one; measured in the same vocabularies: 2 to 7."""

_OCCURRENCES = 10
"""Assumed occurrences of each token that is merged in a batch."""


@dataclass(frozen=True)
class RowCounts:
    """The rows of a step.

    Attributes:
        rows: Rows W that the model reads and predicts.
        predicted: Tokens N whose rows are predicted.
        pieces: Their pieces P.
        different: Different pieces U.
        squares: Sum A of the squares of the numbers of pieces, of tokens with several.
        several: Pieces of tokens with several.
    """

    rows: int
    predicted: int
    pieces: int
    different: int
    squares: int
    several: int

    @classmethod
    def of(cls, lengths: list[int], rows: int, different: int) -> RowCounts:
        """Count the pieces of predicted tokens, whose numbers of pieces are given."""
        several = [length for length in lengths if length > 1]
        squares = sum(length * length for length in several)
        return cls(rows, len(lengths), sum(lengths), different, squares, sum(several))


def assumed_lengths(config: HypernetworkTrainingConfig, size: int) -> tuple[list[int], int]:
    """Return the assumed numbers of pieces of a step's predicted tokens, and the number of all rows.

    Args:
        config: Settings of the training.
        size: Number of tokens of the vocabulary that is read: sampled, fixed, or the model's own.
    """
    used = distinct_tokens(config.texts * config.sequence_length, size)
    rows = size if config.predicted is None else min(size, max(config.predicted, used))
    if config.dynamic is not None:
        merged = round(config.dynamic / 2 * config.texts * config.sequence_length / _OCCURRENCES)
        lengths = [1] * rows + [2] * merged
    else:
        lengths = [LENGTHS[place % len(LENGTHS)] for place in range(rows)]
    most = config.network.pieces
    predicted = [min(length, most) for length in lengths if config.shared == "predicted" or length > 1]
    return predicted, len(lengths)


def distinct_tokens(tokens: int, size: int) -> int:
    """Return the expected number of different tokens in a text, if their frequencies follow Zipf's law.

    Args:
        tokens: Number of tokens of the text.
        size: Number of tokens of the vocabulary.
    """
    shares = 1 / np.arange(1, size + 1)
    return round(float(-np.expm1(tokens * np.log1p(-shares / shares.sum())).sum()))


def assumed_counts(config: HypernetworkTrainingConfig, size: int, source: int) -> RowCounts:
    """Return the assumed rows of a step, for a source vocabulary of `source` tokens."""
    lengths, rows = assumed_lengths(config, size)
    share = 1 if config.dynamic is not None else _DIFFERENT
    return RowCounts.of(lengths, rows, min(source, max(1, sum(lengths) // share)))


def network_flops(config: HypernetworkConfig, widths: Mapping[Role, int], counts: RowCounts) -> int:
    """Return the operations of a forward pass of the hypernetwork.

    Input block: U·(2DC + 4CF). A layer: P·(8C² + 4CF) + 4CA; the last one computes first positions alone:
    P·4C² + N·(4C² + 4CF), and 4C for each piece of a token with several. Heads: N·(4CF + 2CH) for each
    embedding, N·2C for a bias.

    Args:
        config: Architecture.
        widths: Width of the source rows by role.
        counts: Rows of the step.
    """
    embeddings = [width for role, width in widths.items() if role != "bias"]
    hidden, _ = config.sizes(embeddings[0])
    block = 4 * hidden * config.feed_forward * hidden
    squared = hidden * hidden
    tokens, pieces = counts.predicted, counts.pieces
    inputs = counts.different * (2 * sum(embeddings) * hidden + block)
    layer = pieces * (8 * squared + block) + 4 * hidden * counts.squares
    last = pieces * 4 * squared + tokens * (4 * squared + block) + 4 * hidden * counts.several
    heads = tokens * sum(block + 2 * hidden * width for width in embeddings)
    bias = 2 * hidden * tokens if "bias" in widths else 0
    return inputs + (config.layers - 1) * layer + last + heads + bias


@dataclass(frozen=True)
class ReadTokens:
    """The tokens of a step: their number T, those that are predicted, and the mean length of a text."""

    tokens: int
    targets: int
    context: float


def step_flops(
    config: HypernetworkTrainingConfig,
    widths: Mapping[Role, int],
    architecture: Any,
    body: int,
    counts: RowCounts,
    read: ReadTokens,
) -> int:
    """Return the operations of a step of language modelling, of all processes together.

    The hypernetwork takes three forward passes' work, since a backward pass takes two, and a fourth for the
    rows that an anchored lexical loss compares with. The model takes 4·B·T for B weights of its layers, 6·B·T
    if they train, 12·L·d·T·context for the attention of its L layers of width d, and 6·W·E for each target:
    the gradient of the rows is that of its head.

    Args:
        config: Settings of the training.
        widths: Width of the source rows by role.
        architecture: Configuration of the model (transformers).
        body: Number of weights B of the model without its embeddings.
        counts: Rows of the step.
        read: Tokens of the step.
    """
    text = architecture.get_text_config()
    heads = text.num_attention_heads
    width = heads * (getattr(text, "head_dim", None) or text.hidden_size // heads)
    passes = 3 + (config.tokenizer is not None and config.lexical_weight > 0)
    network = passes * network_flops(config.network, widths, counts)
    layers = (4 if config.backbone is None else 6) * body * read.tokens
    attention = 12 * text.num_hidden_layers * width * read.tokens * read.context
    head = 6 * counts.rows * text.hidden_size * read.targets
    return round(network + layers + attention + head)


def first_stage_flops(config: HypernetworkTrainingConfig, widths: Mapping[Role, int], source: int) -> int:
    """Return the operations of a step of the first stage; 0 without one."""
    if config.first_stage is None:
        return 0
    tokens = min(source, config.first_stage.tokens)
    return 3 * network_flops(config.network, widths, RowCounts.of([1] * tokens, tokens, tokens))
