"""Read the documentation as a renderer does: headings, links and code blocks of each page."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: Word behind the fence, or an empty string.
        line: Line of the fence, from 1.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(*languages: str) -> list[Block]:
    """Return all code blocks in one of the languages."""
    return [
        Block(page, token.map[0] + 1, token.info, token.content)
        for page in PAGES
        for token in _tokens(page)
        if token.type == "fence" and token.map and token.info in languages
    ]


def _inline(page: Path) -> Iterator[Token]:
    for token in _tokens(page):
        yield from token.children or ()


def spans(page: Path) -> list[str]:
    """Return the code that stands within lines of a page."""
    return [token.content for token in _inline(page) if token.type == "code_inline"]


def links(page: Path) -> list[str]:
    """Return the targets of all links and images of a page."""
    found = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in _inline(page)]
    return [target for target in found if target]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, named as code hosts name them: `Two words` is `two-words`."""
    tokens = _tokens(page)
    seen: Counter[str] = Counter()
    found = set()
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            title = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return frozenset(found)


def script(name: str) -> Any:
    """Import a script of the documentation by its name."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
