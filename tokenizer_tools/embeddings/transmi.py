"""Give a token that is the Latin form of others their row: copied, chosen by score, or averaged.

Source: TransMI, arXiv 2405.09913, step 3. Of several source tokens `max` copies the row of the one with the
highest score and `min` of the lowest; `average` takes the mean (the paper says mean; the published code
sums). The merge and the language are those of the tokenizer's transliteration. A new token that is no Latin
form gets the mean of its pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix, diags_array

from tokenizer_tools.embeddings import Method, NoParameters, Rule
from tokenizer_tools.embeddings._weights import shared_or_used, subtoken_weights, weighted
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.transliteration import Merge, Romaniser, latin_forms, scores, token_forms


class Parameters(NoParameters):
    """Parameters of TransMI."""

    merge: Merge = Field("max", description="Row of a form that several tokens share: min, average or max.")
    language: str | None = Field(
        None, description="ISO 639-3 code of the language that decides how ambiguous letters are read."
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Return the rule of weights on the source tokens of each new token."""
    sources = latin_sources(transfer, parameters.language)
    if parameters.merge != "average":
        score = scores(transfer.source)
        choose = max if parameters.merge == "max" else min
        sources = [[choose(ids, key=score.__getitem__)] if ids else [] for ids in sources]
    pieces = subtoken_weights(transfer, len(transfer.source.tokens))
    without = diags_array([float(not ids) for ids in sources])
    weights_NV = csr_matrix(without @ pieces) + _equal_weights(sources, pieces.shape)
    return weighted(weights_NV, shared_or_used(transfer))


def latin_sources(transfer: Transfer, language: str | None) -> list[Sequence[int]]:
    """Return for each new token the source ids whose Latin form it is; empty if there are none."""
    found = latin_forms(transfer.source, Romaniser(language).romanise)
    new = token_forms(transfer.target)
    return [found.get(new[token_id], ()) if token_id in new else () for token_id in transfer.new.tolist()]


def _equal_weights(sources: Sequence[Sequence[int]], shape: tuple[int, int]) -> csr_matrix:
    lengths = np.array([len(ids) for ids in sources], np.int64)
    ids = np.concatenate([np.asarray(ids, np.int64) for ids in sources] or [np.empty(0, np.int64)])
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths)
    return csr_matrix((shares, ids, np.concatenate([[0], np.cumsum(lengths)])), shape=shape)


METHOD = Method(
    summary="row of the token whose Latin form it is; for transliterated vocabularies",
    reference="https://arxiv.org/abs/2405.09913",
    prepare=prepare,
    parameters=Parameters,
)
