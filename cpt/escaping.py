"""Text from outside made harmless for a terminal, a log and a page: control characters become visible."""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 but tab and newline, DEL, C1, what turns the direction of writing, and halves of surrogate pairs."""


def escape_controls(text: str) -> str:
    r"""Replace control characters by visible escapes: `\x1b` for ESC, `\u202e` beyond ASCII.

    What `json.dumps` has written stays JSON with the same content: it leaves only such characters as they
    are that are escaped in JSON's own form here.
    """
    return _HIDDEN.sub(_escape, text)


def escape_line(text: str) -> str:
    r"""Escape control characters, newlines (`\n`) included, so that it cannot pass for a line of its own."""
    return escape_controls(text).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
