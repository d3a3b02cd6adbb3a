"""`NAME=REFERENCE` on the command line: models and texts with a name of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cpt.errors import UsageError
from cpt.references.syntax import exists

_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)=(?!=)(?P<rest>.+)", re.DOTALL)


def split_name(word: str) -> tuple[str | None, str]:
    """Split `law=org/name` into name and reference; the name is None if there is none.

    What exists as it is written is a path, whatever is in it. Else a name is what stands before the first
    `=`, if it is of letters, digits, `.`, `_` and `-`.
    """
    match = None if exists(Path(word)) else _NAME.fullmatch(word)
    return (match["name"], match["rest"]) if match else (None, word)


def named_texts(words: Sequence[str], flag: str = "--text") -> dict[str, str]:
    """Return references of texts by name; a text without a name is called by its reference.

    Raises:
        UsageError: two have the same name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, reference = split_name(word)
        called = name or reference
        if called in found:
            raise UsageError(f"{flag} {called} is given twice", hint="Give one of them another name.")
        found[called] = reference
    return found
