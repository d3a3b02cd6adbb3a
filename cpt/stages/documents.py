"""Texts of a corpus artifact, as stages read them, and whether its tokens are a model's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cpt.errors import Problem


def has_texts(corpus: Path, source: str, split: str) -> bool:
    """Whether the corpus holds texts of that source and split."""
    from cpt.corpus.store import parts_of

    return bool(parts_of(corpus / "documents", source, f".{split}.parquet"))


def iterate_texts(corpus: Path, source: str, split: str) -> Iterator[str]:
    """Texts of one source and split ("train" or "heldout"), in the corpus's order."""
    from cpt.corpus import read_documents

    return (document.text for document in read_documents(corpus, source, split))


def tokenizer_problems(model: Path, corpus: Path) -> list[Problem]:
    """The corpus must be tokenised with the model's own tokenizer."""
    from cpt.corpus import read_index
    from cpt.corpus.tokens import tokenizer_sha256

    if read_index(corpus).tokenizer == tokenizer_sha256(model):
        return []
    message = "the corpus is tokenised with another tokenizer than the model's"
    return [Problem(message, key="from", hint="Take both from the same stage: leave `from` out.")]
