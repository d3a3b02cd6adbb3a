"""Documents of random words, and copies of them of a known similarity of their n-grams."""

from __future__ import annotations

import numpy as np

WORDS = np.array([f"w{number}" for number in range(5000)])


def unrelated(generator: np.random.Generator, count: int, length: int = 100) -> list[str]:
    return [" ".join(generator.choice(WORDS, length)) for _ in range(count)]


def near_copy(text: str, ngram: int, other: int) -> tuple[str, float]:
    """Return the text with its last words replaced, and the Jaccard similarity of the two.

    Replacing k words at the end changes k n-grams of m: the two share m - k of m + k.
    """
    words = text.split()
    grams = len(words) - ngram + 1
    changed = [*words[: len(words) - other], *(f"x{number}" for number in range(other))]
    return " ".join(changed), (grams - other) / (grams + other)
