"""Make text from outside harmless for a terminal, a log and a page: control characters become visible."""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 except tab and newline, DEL, C1, marks of writing direction, and halves of surrogate pairs."""


def escape_controls(text: str) -> str:
    r"""Replace control characters by visible escapes: `\x1b` for ESC, `\u202e` beyond ASCII.

    Text written by `json.dumps` stays JSON with the same content: the only such characters in it are those
    whose escape here is also JSON's own form.
    """
    return _HIDDEN.sub(_escape, text)


def escape_line(text: str) -> str:
    r"""Escape control characters and newlines (`\n`), so that the text cannot pass for several lines."""
    return escape_controls(text).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
