"""Copy pages of runs into the gallery, with a picture of the top of each.

    python docs/gallery.py quickstart=runs/quickstart/report.html shares-of-replay=runs/my-sweep/sweep.html

A page becomes `docs/gallery/NAME.html`, without the folders of the machine that made it, and its picture,
1,200 pixels wide, `docs/gallery/NAME.png`. `docs/gallery.md` shows them. Pictures need Playwright and
Chromium.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "gallery"
WIDTH, HEIGHT = 1200, 820
"""Size of a picture in pixels: the headline and the first figures."""

_FOLDERS = re.compile(r"(?<![\w<:/.])(?:/[\w.+-]+)+/(?=[\w.+-])")
"""The folders of an absolute path: not of a closing tag, an address or a relative path."""


def portable(page: str) -> str:
    """Return a page with the last part alone of every absolute path."""
    return _FOLDERS.sub("", page)


def picture(page: Path, target: Path) -> None:
    """Write a picture of the top of a page."""
    sys.path.insert(0, str(FOLDER.parents[1] / "tests"))
    from browsing import chromium

    with chromium() as opened:
        view = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        view.goto(page.as_uri())
        view.screenshot(path=target)


def main(words: list[str]) -> None:
    """Copy pages given as NAME=FILE."""
    FOLDER.mkdir(exist_ok=True)
    for word in words:
        name, _, file = word.partition("=")
        page = FOLDER / f"{name}.html"
        page.write_text(portable(Path(file).read_text(encoding="utf-8")), encoding="utf-8")
        picture(page, page.with_suffix(".png"))
        print(page)


if __name__ == "__main__":
    main(sys.argv[1:])
