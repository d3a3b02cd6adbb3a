"""Names of fields and columns in messages: they come from data, so anything may stand in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST = 10
_COMPARED = 1000
_LONGEST = 80


def quoted(name: str) -> str:
    """Return a name in quotes, with control characters escaped and its end left out if it is long."""
    return repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...")


def listed(names: Iterable[str]) -> str:
    """Return the first names for a message."""
    return ", ".join(shown(name) for name in islice(names, _MOST)) or "none"


def shown(name: str) -> str:
    """Return a name as it is if it is short and printable, and in quotes otherwise."""
    return name if name.isprintable() and 0 < len(name) <= _LONGEST else quoted(name)


def nearest(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the name that is most like the wanted one, if any is; very long ones are not compared."""
    compared = [name for name in islice(names, _COMPARED) if len(name) <= _LONGEST]
    return difflib.get_close_matches(wanted, compared, n=1)
