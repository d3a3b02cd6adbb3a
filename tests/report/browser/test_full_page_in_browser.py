"""The page of a run with everything, in a browser: silent, accessible, sortable, within a phone's width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from accessibility import problems
from browsing import Visit
from test_report_in_browser import OVERFLOW

Opens = Callable[..., Visit]


@pytest.fixture(scope="module")
def full_report(full_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("full") / "report.html"
    file.write_text(full_page, encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_everything_fits_and_can_be_read(visit: Opens, full_report: Path, scheme: str, width: int) -> None:
    visited = visit(full_report, width=width, color_scheme=scheme)
    assert (visited.complaints, visited.requests) == ([], [])
    assert problems(visited) == []
    assert visited.ask(OVERFLOW) == 0


def test_labels_of_charts_stay_inside_their_cards(visit: Opens, full_report: Path) -> None:
    outside = """() => [...document.querySelectorAll(".chart text")].filter((text) => {
        const [label, card] = [text, text.closest(".card")].map((each) => each.getBoundingClientRect());
        return label.left < card.left || label.right > card.right + 1 || label.top < card.top;
    }).map((text) => text.textContent)"""
    for width in (360, 1280):
        assert visit(full_report, width=width).ask(outside) == []


def test_actions_sort_by_what_they_are_not_by_how_they_are_written(visit: Opens, full_report: Path) -> None:
    page = visit(full_report).page
    table = page.get_by_role("region", name="Actions of the controller")
    table.get_by_role("button", name="To", exact=True).click()
    table.get_by_role("button", name="To", exact=True).click()
    assert table.locator("tbody td[data-label=To]").all_inner_texts() == ["0.7", "37.5%", "25.0%"]


def test_every_link_of_the_overview_leads_to_a_heading(visit: Opens, full_report: Path) -> None:
    page = visit(full_report).page
    for link in page.locator("nav a").all():
        target = page.locator(f"{link.get_attribute('href')} > h2")
        assert target.inner_text() == link.inner_text()


CUT = """() => [...document.querySelectorAll(".scroll")]
    .filter((each) => each.scrollWidth > each.clientWidth)
    .map((each) => each.getAttribute("aria-label"))"""


@pytest.mark.parametrize("width", [390, 768, 1024, 1280])
def test_no_table_is_cut(visit: Opens, full_report: Path, width: int) -> None:
    assert visit(full_report, width=width).ask(CUT) == []


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_the_table_of_suites_shows_all_columns(
    visit: Opens, full_page: str, tmp_path: Path, width: int
) -> None:
    """With names as long as those of real tasks and metrics."""
    page = full_page.replace("pubmedqa", "mmlu_professional_medicine_continuation")
    page = page.replace(">acc</td>", ">acc_calibrated</td>")
    assert "mmlu_professional_medicine_continuation</th>" in page
    assert "acc_calibrated</td>" in page
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    assert "Suites of benchmarks" not in visit(file, width=width).ask(CUT)
