"""Give a new token a mean of its pieces in which the first, or the last, piece weighs most.

The first piece of a word often carries its stem, the last its ending; with `decay` 0 only that piece
counts, with 1 this is the subtoken mean. A parameterised form of the mean of fast vocabulary transfer,
arXiv 2212.09535.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from tokenizer_tools.embeddings import Method, NoParameters, Rule
from tokenizer_tools.embeddings._weights import subtoken_rule
from tokenizer_tools.transfer import Transfer


class Parameters(NoParameters):
    """Parameters of the weights."""

    emphasis: Literal["first", "last"] = Field("first", description="The piece that weighs most.")
    decay: float = Field(0.5, ge=0, le=1, description="Weight of a piece relative to its heavier neighbour.")


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the rule of weights that decay geometrically from the first or the last piece."""

    def weight(positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        distances = positions if parameters.emphasis == "first" else lengths - 1 - positions
        return parameters.decay**distances

    return subtoken_rule(transfer, weight)


METHOD = Method(
    summary="mean of its pieces' rows, the first or the last weighing most",
    reference="https://arxiv.org/abs/2212.09535",
    prepare=prepare,
    parameters=Parameters,
)
