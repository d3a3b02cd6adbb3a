"""How well a tokenizer compresses text."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer


def bytes_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """UTF-8 bytes of the texts over the tokens they become, special tokens not added.

    Raises:
        ValueError: the texts hold no token.
    """
    tokens = sum(
        len(encoding) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    )
    if not tokens:
        raise ValueError("no text to measure")
    return sum(len(text.encode()) for text in texts) / tokens
