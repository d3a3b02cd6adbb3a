"""Give a new token the mean of the rows of its pieces, the tokens that spelt it before.

Source: fast vocabulary transfer, arXiv 2212.09535. Input and output matrices are averaged separately.
"""

from __future__ import annotations

from tokenizer_tools.embeddings import Method, NoParameters, Rule
from tokenizer_tools.embeddings._weights import subtoken_rule
from tokenizer_tools.transfer import Transfer


def prepare(transfer: Transfer, _parameters: NoParameters) -> Rule:
    """Return the rule of equal weights on a token's pieces."""
    return subtoken_rule(transfer)


METHOD = Method(
    summary="mean of the rows of its pieces, the tokens that spelt it before",
    reference="https://arxiv.org/abs/2212.09535",
    prepare=prepare,
)
