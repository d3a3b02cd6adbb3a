"""Pages in headless Chromium: what they ask for, what they complain about, how they look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "Debian has one: apt-get install chromium"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser; skips the test, and says why, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"there is no Chromium to open pages with. {INSTALL}")
    with api.sync_playwright() as playwright:
        is_root = os.name == "posix" and os.geteuid() == 0
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=not is_root)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """An open page, and what happened on it.

    Attributes:
        complaints: errors and warnings of the console, and exceptions that no script caught.
        requests: addresses that were asked for, the page's own left out.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self._address = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def go(self, page: Path | str) -> Visit:
        """Open a file or an address, and wait until it is loaded."""
        self._address = page.absolute().as_uri() if isinstance(page, Path) else page
        self.page.goto(self._address)
        return self

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; runs beside the page's own scripts and policy."""
        return self.page.evaluate(expression)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if request.url != self._address and not request.url.startswith("data:"):
            self.requests.append(request.url)
