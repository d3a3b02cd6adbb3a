"""Count hashed n-grams of words, for ratings that compare bags of words."""

from __future__ import annotations

from typing import Any

WORD = r"(?u)\w+|[^\w\s]+"
"""A word, or a run of punctuation, as NLTK's WordPunctTokenizer cuts text."""


def vectorizer(ngrams: int, buckets: int, *, unit_length: bool) -> Any:
    """Return scikit-learn's vectorizer of hashed n-grams of lower-case words.

    The hash (MurmurHash3) is the same in every process and on every machine.

    Args:
        ngrams: Number of words of the longest n-grams; all shorter ones are counted too.
        unit_length: Scale each document's counts to length 1 (L2), so that long documents weigh no more.
    """
    from sklearn.feature_extraction.text import HashingVectorizer  # type: ignore[import-untyped]

    return HashingVectorizer(
        ngram_range=(1, ngrams),
        n_features=buckets,
        token_pattern=WORD,
        lowercase=True,
        alternate_sign=False,
        norm="l2" if unit_length else None,
    )
