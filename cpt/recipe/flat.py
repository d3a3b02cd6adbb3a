"""Nested data as dotted keys, to compare it and to print it."""

from __future__ import annotations

from typing import Any


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}, "c": [{"d": 2}]}` as `{"a.b": 1, "c.0.d": 2}`; lists of plain values stay whole."""
    if isinstance(value, dict) and value:
        items: Any = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = enumerate(value)
    else:
        return {key: value}
    found = {}
    for part, inner in items:
        found.update(flat(inner, f"{key}.{part}" if key else str(part)))
    return found
