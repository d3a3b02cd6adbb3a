"""'Did you mean': the nearest_hint of the words that would have been right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_hint(word: str, options: Iterable[str]) -> str | None:
    """A hint that names the option nearest_hint to a misspelt word; None if none is near."""
    near = get_close_matches(word.lower(), list(options), n=1, cutoff=0.6)
    return f"Did you mean `{near[0]}`?" if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str | None:
    """A hint that names the option nearest_hint to a misspelt word, else all options; None without options."""
    known = list(dict.fromkeys(options))
    if not known:
        return None
    return nearest_hint(word, known) or "Known here: " + ", ".join(f"`{option}`" for option in known) + "."
