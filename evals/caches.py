"""Where what evaluations keep lies, in the cache folder of this package."""

from __future__ import annotations

from pathlib import Path

from cpt.references import cache_folder


def data_cache() -> Path:
    """Folder of data sets in the form in which tasks read them."""
    return cache_folder() / "evals" / "data"


def answer_cache() -> Path:
    """Folder of the answers that models have given."""
    return cache_folder() / "evals" / "answers"
