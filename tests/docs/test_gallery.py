"""The pages of the gallery are whole, silent, shown, and name no folder of a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Visit
from doc_pages import script

gallery = script("gallery")
PAGES = sorted(gallery.FOLDER.glob("*.html"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_shown_and_names_no_folder(page: Path) -> None:
    shown = (gallery.FOLDER.parent / "gallery.md").read_text()
    assert f"](gallery/{page.name})" in shown
    assert f"](gallery/{page.stem}.png)" in shown
    text = page.read_text(encoding="utf-8")
    assert gallery.portable(text) == text
    assert page.with_suffix(".png").stat().st_size < 250_000
    assert len(text) < 2_000_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_asks_and_complains_of_nothing(page: Path, visit: Callable[..., Visit]) -> None:
    visited = visit(page, width=1280)
    assert (visited.complaints, visited.requests) == ([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpt run /home/me/my.yaml a.path=/data/x/y.jsonl", "cpt run my.yaml a.path=y.jsonl"),
        ('<a href="https://example.org/a/b">', '<a href="https://example.org/a/b">'),
        ("</td></tr> data/my.jsonl ../runs/a 3 /h", "</td></tr> data/my.jsonl ../runs/a 3 /h"),
    ],
)
def test_only_absolute_paths_lose_their_folders(text: str, expected: str) -> None:
    assert gallery.portable(text) == expected
