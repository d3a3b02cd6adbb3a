"""The page of a comparison as a browser sees it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accessibility import problems
from browsing import Visit

sys.path.insert(0, str(Path(__file__).parents[1] / "comparison"))

from made_runs import FOUR, SETTINGS, a_run

from cpt.corpus.recall import GROUPS
from cpt.report.comparison.facts import compare
from cpt.report.comparison.page import render

Opens = Callable[..., Visit]

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recall = dict.fromkeys(GROUPS, FOUR[0].facts.tasks["hpo-continuation"])
    name = "a-run-with-a-long-name-that-does-not-break-anywhere"
    stranger = a_run(name, -0.9, 0.0, texts={}, recall=recall)
    file = tmp_path_factory.mktemp("comparison") / "comparison.html"
    file.write_text(render(compare([*FOUR, stranger], SETTINGS, "2026-03-01")), encoding="utf-8")
    return file


def test_the_page_opens_without_complaints_and_asks_for_nothing(visit: Opens, comparison: Path) -> None:
    visited = visit(comparison)
    assert (visited.complaints, visited.requests) == ([], [])
    assert visited.page.title() == "Comparison of 5 runs"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_accessible(visit: Opens, comparison: Path, scheme: str, width: int) -> None:
    visited = visit(comparison, width=width, color_scheme=scheme)
    assert problems(visited) == []
    assert visited.ask(OVERFLOW) == 0


def test_every_plot_is_drawn_and_described(visit: Opens, comparison: Path) -> None:
    plots = visit(comparison).ask(
        """() => [...document.querySelectorAll(".chart svg")].map((svg) => ({
            name: svg.getAttribute("aria-label"),
            described: document.getElementById(svg.getAttribute("aria-describedby"))?.textContent,
            height: svg.getBoundingClientRect().height,
        }))"""
    )
    names = [plot["name"] for plot in plots]
    assert len(set(names)) == len(names)
    assert {"Domain gain against general rise", "General text", "Tokens trained, by source"} <= set(names)
    assert all(plot["described"] and plot["height"] > 60 for plot in plots)


def test_runs_sort_by_a_figure(visit: Opens, comparison: Path) -> None:
    table = visit(comparison).page.locator("#change table.sortable")
    table.locator("thead button").nth(3).click()
    order = table.evaluate(
        "(table) => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim())"
    )
    assert order[0] == "3replay-50"
    assert order[-1] == "1replay-0"
