"""The page of a run as a browser sees it: whole, silent, usable by mouse, keyboard, phone and printer."""
# ruff: noqa: RUF001 - the page writes true minus signs and dashes

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accessibility import problems
from browsing import Visit

Opens = Callable[..., Visit]

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(medical_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(medical_page, encoding="utf-8")
    return file


@pytest.mark.parametrize("scripted", [True, False])
def test_the_page_opens_without_complaints_and_asks_for_nothing(
    visit: Opens, report: Path, scripted: bool
) -> None:
    visited = visit(report, java_script_enabled=scripted)
    assert (visited.complaints, visited.requests) == ([], [])
    assert visited.page.title() == "medical: run report"
    assert visited.page.locator("thead button").count() == 0 or scripted


def test_nothing_gets_out_even_if_a_script_tried(visit: Opens, report: Path) -> None:
    visited = visit(report)
    visited.ask(
        """() => {
            document.body.insertAdjacentHTML("beforeend", "<img src='http://127.0.0.1:9/x'>");
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            return fetch("http://127.0.0.1:9/").catch(() => 0);
        }"""
    )
    visited.page.wait_for_timeout(50)
    assert visited.ask("() => window.ran") is None
    assert all("Content Security Policy" in complaint for complaint in visited.complaints)
    assert len(visited.complaints) >= 3


def test_every_plot_is_drawn_and_has_a_name_and_a_description(visit: Opens, report: Path) -> None:
    plots = visit(report).ask(
        """() => [...document.querySelectorAll(".chart svg")].map((svg) => ({
            name: svg.getAttribute("aria-label"),
            described: document.getElementById(svg.getAttribute("aria-describedby"))?.textContent,
            size: [svg.getBoundingClientRect().width, svg.getBoundingClientRect().height],
            shapes: svg.querySelectorAll("path, rect, circle").length,
        }))"""
    )
    names = [plot["name"] for plot in plots]
    assert len(set(names)) == len(names)
    for name in ("Training loss", "Learning rate", "General text: bits per byte in training"):
        assert name in names
    for plot in plots:
        assert plot["described"]
        assert min(plot["size"]) > 60
        assert plot["shapes"] > 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_accessible(visit: Opens, report: Path, scheme: str, width: int) -> None:
    visited = visit(report, width=width, color_scheme=scheme)
    assert problems(visited) == []
    assert visited.ask(OVERFLOW) == 0


def test_the_check_of_accessibility_finds_faults(visit: Opens, report: Path) -> None:
    visited = visit(report)
    visited.ask(
        """() => {
            document.querySelector("h2").outerHTML = "<h4 id='a' style='color: #999'>x</h4>";
            document.querySelector(".chart svg").removeAttribute("role");
            document.querySelector("main").insertAdjacentHTML("beforeend",
                "<table><tr><th>x</th></tr></table><button></button><a href='#nowhere' tabindex=2>x</a>");
        }"""
    )
    found = " ".join(problems(visited))
    for fault in ("skips a level", "no text", "without scope", "no accessible name", "nowhere", "above 0"):
        assert fault in found
    assert "faint: H4" in found


def test_light_and_dark_are_two_palettes(visit: Opens, report: Path) -> None:
    looks = """() => [["body", "backgroundColor"], [".chart text", "fill"]].map(
        ([part, property]) => getComputedStyle(document.querySelector(part))[property])"""
    light, dark = (visit(report, color_scheme=scheme).ask(looks) for scheme in ("light", "dark"))
    assert all(a != b for a, b in zip(light, dark, strict=True))


ROWS = "(table) => [...table.tBodies[0].rows].map((row) => row.cells[%d].textContent.trim())"


def test_tables_sort_by_mouse_up_down_and_back(visit: Opens, report: Path) -> None:
    table = visit(report).page.locator("#gap table.sortable")
    heading = table.locator("thead th").nth(1)
    written = table.evaluate(ROWS % 0)
    assert heading.get_attribute("aria-sort") is None
    orders = []
    for state in ("ascending", "descending", None):
        heading.click()
        assert heading.get_attribute("aria-sort") == state
        orders.append(table.evaluate(ROWS % 1))
    values = [[float(value) for value in order if value[:1].isdigit()] for order in orders[:2]]
    assert values[0] == sorted(values[0])
    assert values[1] == sorted(values[0], reverse=True)
    assert table.evaluate(ROWS % 0) == written


def test_tables_sort_by_keyboard_one_heading_at_a_time(visit: Opens, report: Path) -> None:
    page = visit(report).page
    table = page.locator("#change table.sortable")
    table.locator("thead button").first.focus()
    page.keyboard.press("Enter")
    names = table.evaluate(ROWS % 0)
    assert names == sorted(names)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    sorted_by = table.locator("thead th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.inner_text().startswith("Base")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_keyboard_reaches_every_heading_in_sight(visit: Opens, report: Path, width: int) -> None:
    boxes = visit(report, width=width).ask(
        """() => [...document.querySelectorAll("thead button")].map((button) => {
            button.focus();
            const { x, width } = button.getBoundingClientRect();
            return { x, width, focused: document.activeElement === button };
        })"""
    )
    assert len(boxes) > 20
    for box in boxes:
        assert box["focused"]
        assert box["width"] > 15
        assert 0 <= box["x"] <= width - 20


def test_how_cells_are_compared(visit: Opens, report: Path, tmp_path: Path) -> None:
    """Figures as the page writes them, `data-value` before text, words after figures, nothing last."""
    cells = ["1,234", "−0.5", "<0.001", "27%", "+11.5 pts", "–", "words", "", "12<small>0 to 9</small>"]
    rows = "".join(f"<tr><td>{cell}</td></tr>" for cell in cells)
    rows += "<tr><td data-value=13>2 min</td></tr>"
    table = f"<table class=sortable><thead><tr><th>x</th></tr></thead><tbody>{rows}</tbody></table>"
    page = report.read_text(encoding="utf-8").replace('<main id="main">', f'<main id="main">{table}')
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    visited = visit(tmp_path / "page.html")
    visited.page.locator("main > table button").click()
    order = visited.ask(f"() => ({ROWS % 0})(document.querySelector('main > table'))")
    assert [cell for cell in order if cell not in ("", "–")] == [
        *("−0.5", "<0.001", "+11.5 pts", "120 to 9", "2 min", "27%", "1,234", "words")
    ]
    assert set(order[-2:]) == {"", "–"}


def test_the_page_prints(visit: Opens, report: Path) -> None:
    visited = visit(report, width=794)
    visited.page.emulate_media(media="print")
    assert visited.ask(OVERFLOW) == 0
    assert not visited.page.locator("nav").first.is_visible()
    printed: Any = visited.page.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page/") <= 30
