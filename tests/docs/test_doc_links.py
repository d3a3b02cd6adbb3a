"""Every relative link of the documentation leads to a file, and to a heading that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, anchors, links

OUTSIDE = ("http://", "https://", "mailto:")


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if link.startswith(OUTSIDE):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# One, `two`\n\n## Again\n\n## Again\n")
    good = ["b.md", "b.md#one-two", "b.md#again-1", "#here", "https://example.org/#x", "."]
    bad = ["c.md", "b.md#three", "#there", "b.md#again-2", "picture.svg"]
    written = "".join(f"[x]({link})\n" for link in [*good, *bad[:-1]])
    page.write_text(f"# Here\n\n{written}![x]({bad[-1]})\n\n```\n[not a link](nowhere.md)\n```\n")
    assert broken(page) == bad
