"""Fixtures that every package's tests can use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Visit, chromium
from tiny import write_tiny_model

from cpt.references.cache import cache_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser


os.fsync = lambda _: None  # type: ignore[assignment]
"""No test ends with a power loss, and a run of tiny stages flushes some hundred files at 8 ms each."""


@pytest.fixture(scope="session")
def finished_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with finished runs `short` and `tiny` (every stage). Copy it before changing anything."""
    from faults.workspace import write_finished_workspace

    return write_finished_workspace(tmp_path_factory.mktemp("workspace") / "finished")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder; do not write into it."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def another_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes further tiny models: `another_model("b", seed=1)`."""
    return lambda name, **options: write_tiny_model(tmp_path / name, **options)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep nothing of an earlier session but downloads: an answer that older code gave hides a fault."""
    cache = tmp_path_factory.mktemp("cache")
    for name in ("wheels", "gguf"):
        (downloads := cache_folder() / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(downloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CPT_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C as in a terminal, also where the tests were started in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _frozen_heap() -> None:
    """Spare the collector what earlier modules have imported.

    With torch, transformers and lm-eval a heap has 340,000 objects more, and each full collection, of which
    every evaluation makes one, takes a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Of one module, for no other event loop can run beside Playwright's."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens a page: `visit(file, width=360, color_scheme="dark")`; more is `Browser.new_context`'s."""
    contexts = []

    def open_page(page: Path | str, width: int = 1280, height: int = 900, **options: object) -> Visit:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        contexts[-1].set_default_timeout(120_000)  # a page took 30 s where 15 other processes ran
        return Visit(contexts[-1].new_page()).go(page)

    yield open_page
    for context in contexts:
        context.close()
