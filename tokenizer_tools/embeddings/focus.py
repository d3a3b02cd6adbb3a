"""Make a new token of the shared tokens that occur in similar contexts in the text.

Source: FOCUS, Dobler and de Melo (arXiv 2305.14481). FastText vectors of tokens are learned on the text, cut
by the target tokenizer. Each new token is the mean of shared tokens weighted by the sparsemax of its vector's
cosines to theirs; a token without a vector is drawn from N(mean, std) of the shared rows. The paper, which
has more text, sets `epochs: 3` and `min_count: 10`; with these, a domain's few million tokens are too few.
"""

from __future__ import annotations

import numpy as np
import torch

from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._weights import neighbour_weights, placed, shared_or_used, sparsemax
from tokenizer_tools.embeddings._word_vectors import (
    VectorParameters,
    texts_of,
    token_vectors,
    weighted_or_normal,
)
from tokenizer_tools.transfer import Transfer


class Parameters(VectorParameters):
    """Parameters of FOCUS."""


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the rule of the sparsemax of cosines to shared tokens."""
    vectors_VD, known_V = token_vectors(transfer.target, texts_of(transfer)(), parameters, transfer.seed)
    shared = known_V[transfer.shared_target]
    known_N = known_V[transfer.new] & shared.any()
    weights_NV = placed(
        neighbour_weights(
            torch.from_numpy(vectors_VD[transfer.new[known_N]]),
            torch.from_numpy(vectors_VD[transfer.shared_target[shared]]),
            sparsemax,
        ),
        np.flatnonzero(known_N),
        transfer.shared_source[shared],
        (len(transfer.new), len(transfer.source.tokens)),
    )
    return weighted_or_normal(weights_NV, ~known_N, shared_or_used(transfer), transfer.seed)


METHOD = Method(
    summary="shared tokens in similar contexts, by fastText vectors and sparsemax",
    reference="https://arxiv.org/abs/2305.14481",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
