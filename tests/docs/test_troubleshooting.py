"""Messages that the page on troubleshooting quotes are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from doc_pages import ROOT, spans

PAGE = ROOT / "docs" / "troubleshooting.md"


@cache
def texts() -> tuple[str, ...]:
    """Return all texts in the code, and the fixed parts of those that are filled in."""
    files = [
        file
        for name in ("cpt", "merging", "evals", "tokenizer_tools")
        for file in (ROOT / name).rglob("*.py")
    ]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return tuple(
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def messages() -> Iterator[str]:
    """Yield the quoted messages: code with `…` for what differs, or alone on its line."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for span in spans(PAGE):
        alone = any(line.strip("` ") == span.strip("` ") and line.startswith("`") for line in lines)
        if "…" in span or alone:
            yield span


def missing(message: str) -> list[str]:
    """Return the fixed parts of a message that stand in no text of the code."""
    parts = [part.strip() for part in re.split("…", message.replace("[…]", "…"))]
    return [part for part in parts if len(part) > 2 and not any(part in text for text in texts())]


def test_quoted_messages_are_those_of_the_code() -> None:
    found = list(messages())
    assert len(found) > 15
    assert {message: missing(message) for message in found if missing(message)} == {}


def test_other_messages_are_found() -> None:
    assert missing("the run `…` is being painted by another process") == [
        "` is being painted by another process"
    ]
