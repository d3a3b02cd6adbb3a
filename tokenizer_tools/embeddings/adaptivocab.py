"""Weight pieces exponentially: the input row leans on the last piece, the output row on the first.

Source: AdaptiVocab, arXiv 2503.19693. Over the pieces i = 0, 1, ... input weights are proportional to
e^(rate*i) and output weights to e^(-rate*i), with rate 2: a model that reads a word knows it best at its
last piece, and a model that writes it predicts its first piece. A tied matrix does both, so it gets the mean
of the two rules' rows.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from torch import Tensor

from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import Weight, shared_or_used, subtoken_weights, weighted
from tokenizer_tools.transfer import Transfer


class Parameters(NoParameters):
    """Parameters of AdaptiVocab."""

    rate: float = Field(2.0, ge=0, description="Exponent per piece; 0 is the subtoken mean.")


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the two rules by role, and their mean for a tied matrix."""
    columns, rate = len(transfer.source.tokens), parameters.rate
    to_last, to_first = (subtoken_weights(transfer, columns, weight) for weight in _weights(rate))
    mixtures = (to_last, to_first, (to_last + to_first) / 2)
    reading, writing, both = (weighted(weights, shared_or_used(transfer)) for weights in mixtures)
    by_role: dict[Role, Rule] = {"input": reading, "output": writing, "bias": writing, "tied": both}

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        return by_role[role](matrix_VH, role)

    return rows


def _weights(rate: float) -> tuple[Weight, Weight]:
    """Return weights towards the last and towards the first piece, at most 1 so that none overflows."""

    def to_last(positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return np.exp(rate * (positions - lengths + 1))

    def to_first(positions: np.ndarray, _lengths: np.ndarray) -> np.ndarray:
        return np.exp(-rate * positions)

    return to_last, to_first


METHOD = Method(
    summary="mean of its pieces' rows, leaning on the last for input and on the first for output",
    reference="https://arxiv.org/abs/2503.19693",
    prepare=prepare,
    parameters=Parameters,
)
