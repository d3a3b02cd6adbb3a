"""Exact probabilities of bytes under any BPE language model.

A model gives probabilities of tokens. The probability that a text goes on with a byte is a sum over all token
sequences that cover the text and the byte, for each of which the model has one (Phan et al. 2024, arXiv
2410.09303): with cover(x) the canonical sequences whose last token is the first to reach the end of x,

    P(x) = Σ_{u ∈ cover(x)} P(u),   P(b | x) = P(xb) / P(x),   Σ_b P(b | x) + P(end | x) = 1.

Sequences that the tokenizer makes of no text are left out, and what remains at each token is made to sum to
one. So a prompt may end inside a token, and models with different tokenizers can be compared, and averaged,
byte by byte.

    from evals import exact_bytes

    model = exact_bytes.load("org/model")
    exact_bytes.complete(model, "The capital of France is Par", 20)
    exact_bytes.log_probability(exact_bytes.ensemble([model, other]), "is", "The capital of France is Par")
"""

from evals.exact_bytes.model import (
    ByteEnsemble,
    ByteModel,
    complete,
    ensemble,
    fill_in_the_middle,
    load,
    log_probability,
)

__all__ = [
    "ByteEnsemble",
    "ByteModel",
    "complete",
    "ensemble",
    "fill_in_the_middle",
    "load",
    "log_probability",
]
