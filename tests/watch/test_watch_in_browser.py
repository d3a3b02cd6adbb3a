"""The page of a run that goes on, in a browser: it follows the run and leaves the reader in peace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from accessibility import problems
from browsing import Visit
from growing import STEPS, GrowingRun

from cpt.watch.run_watcher import RunWatcher
from cpt.watch.server import Server

Opens = Callable[..., Visit]

VERSION = "() => document.getElementById('state').dataset.version"


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are made as often as they are asked for."""
    monkeypatch.setattr("cpt.watch.server._LEAST_PAUSE", 0.0)
    monkeypatch.setattr("cpt.watch.server._PAUSES", 0.0)


@contextmanager
def serving(root: Path, port: int = 0, name: str | None = "medical") -> Iterator[Server]:
    with Server(RunWatcher(root, name), port) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[GrowingRun]:
    """A run in the middle of its training, held by a process."""
    growing = GrowingRun(tmp_path).begin().train(1, 40)
    with growing.store.lock():
        yield growing


@pytest.fixture
def page(tmp_path: Path, run: GrowingRun, visit: Opens) -> Iterator[Visit]:
    with serving(tmp_path) as server:
        yield visit(server.address)


def refresh(visited: Visit) -> None:
    """What happens every two seconds, now."""
    before = visited.ask(VERSION)
    visited.ask("() => { document.dispatchEvent(new Event('visibilitychange')) }")
    visited.page.wait_for_function(f"(before) => ({VERSION})() !== before", arg=before)


def becomes(visited: Visit, text: str) -> bool:
    """Whether the page comes to this state; it may have looked in the middle of what the run wrote."""
    begins = "(text) => document.querySelector('#state [role=status]').innerText.startsWith(text)"
    visited.page.wait_for_function(begins, arg=text)
    return True


def state(visited: Visit) -> str:
    return str(visited.page.locator("#state [role=status]").inner_text())


def test_it_shows_the_report_so_far_and_asks_nobody_else(page: Visit, run: GrowingRun) -> None:
    assert state(page) == "medical is running\ngeneral rose by 0 ± 0.001 of 0.02 allowed"
    assert "pretrain: 40 of 100 step, 2 min left, 500 tokens per second" in page.page.inner_text("#state")
    assert page.page.title() == "40% of pretrain · medical"
    run.train(41, 60)
    refresh(page)
    assert "60 of 100" in page.page.inner_text("#state")
    assert page.page.title() == "60% of pretrain · medical"
    assert page.complaints == []
    assert {request.split("?")[0] for request in page.requests} == {page.page.url}


@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_accessible(page: Visit, width: int) -> None:
    page.page.set_viewport_size({"width": width, "height": 800})
    assert problems(page) == []
    assert page.ask("() => document.documentElement.scrollWidth") == width


def test_only_what_differs_is_changed(page: Visit, run: GrowingRun) -> None:
    """Elements stay the same objects: nothing flickers, and what the reader marked stays marked."""
    page.ask(
        """() => {
            for (const element of document.querySelectorAll("body *")) element.old = true;
            getSelection().selectAllChildren(document.querySelector("#training h2"));
        }"""
    )
    curve = "() => document.querySelector('#training svg').outerHTML"
    drawn = page.ask(curve)
    run.train(41, 60)
    refresh(page)
    assert page.ask(curve) != drawn
    assert page.ask("() => document.querySelector('#training svg').old") is True
    assert page.ask("() => getSelection().toString()") == "Loss and learning rate"
    fresh = page.ask("() => [...document.querySelectorAll('main > *')].filter((each) => !each.old).length")
    assert fresh == 0


def test_it_keeps_scroll_sort_and_focus(page: Visit, run: GrowingRun) -> None:
    table = page.page.locator("#gap table.sortable")
    heading = table.locator("thead th").first
    heading.click()
    heading.click()
    names = "(table) => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim())"
    assert table.evaluate(names) == ["general", "domain"]
    page.ask("() => document.getElementById('gap').scrollIntoView({ behavior: 'instant' })")
    top = "() => document.getElementById('gap').getBoundingClientRect().top"
    at = page.ask(top)
    figures = table.inner_text()
    run.train(41, 60, rise=0.03)
    refresh(page)
    assert table.inner_text() != figures
    assert table.evaluate(names) == ["general", "domain"]
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.ask("() => document.activeElement.closest('th')?.cellIndex") == 0
    assert page.ask(top) == pytest.approx(at, abs=2)
    page.page.keyboard.press("Enter")
    assert table.evaluate(names) == ["domain", "general"]


def test_it_follows_a_run_from_before_it_begins_to_its_end(tmp_path: Path, visit: Opens) -> None:
    with serving(tmp_path) as server:
        visited = visit(server.address)
        assert state(visited) == "medical is not begun yet"
        assert visited.page.inner_text("h1") == "medical"
        run = GrowingRun(tmp_path).begin()
        with run.store.lock():
            run.train(1, 30, rise=0.05)
            refresh(visited)
            assert "general <= +0.02 is broken" in state(visited)
            assert visited.page.locator("#gap svg").count() == 2
            assert "Nothing yet." in visited.page.inner_text("#tasks")
        refresh(visited)
        assert becomes(visited, "medical is killed; the same command continues")
        with run.store.lock():
            run.cut(20)
            run.train(21, STEPS)
            refresh(visited)
            assert becomes(visited, "medical is running")
            run.finish()
            refresh(visited)
        assert becomes(visited, "medical is finished")
        assert visited.page.locator("progress").count() == 0
        assert "No benchmark task was run." in visited.page.inner_text("#tasks")
        assert visited.complaints == []


def test_it_says_when_nobody_answers_and_goes_on_when_somebody_does(
    tmp_path: Path, run: GrowingRun, visit: Opens
) -> None:
    lost = "() => !document.getElementById('lost').hidden"
    ask: Any = "() => { document.dispatchEvent(new Event('visibilitychange')) }"
    with serving(tmp_path) as server:
        port = server.server_address[1]
        visited = visit(server.address)
        assert not visited.ask(lost)
    visited.ask(ask)
    visited.page.wait_for_function(lost)
    assert "no longer answers" in visited.page.inner_text("[role=alert]")
    run.train(41, 50)
    with serving(tmp_path, port):
        refresh(visited)
        assert "50 of 100" in visited.page.inner_text("#state")
        assert not visited.ask(lost)
