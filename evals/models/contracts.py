"""What kept answers depend on beside the model and the request: the code that answers.

Raise the number of a kind of request when the code gives another answer to the same request: answers that
were kept before are then asked anew.
"""

from __future__ import annotations

CONTRACTS = {
    "loglikelihood": 1,
    "loglikelihood_rolling": 1,
    "generate_until": 2,  # 2: the tokenizer's end token ends a text too
}

NEW_TOKENS = 256
"""Tokens to generate where a task does not say how many, as in lm-eval."""
