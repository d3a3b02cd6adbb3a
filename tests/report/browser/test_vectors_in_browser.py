"""The page of task vectors as a browser sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from accessibility import problems
from browsing import Visit
from vector_facts import analysis

from cpt.report.merge_pages import render_vectors
from cpt.report.schema import Vectors

Opens = Callable[..., Visit]

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("law", "medicine", "a-name-that-is-long-and-does-not-break")
    file = tmp_path_factory.mktemp("vectors") / "vectors.html"
    file.write_text(render_vectors(Vectors.model_validate(analysis(*names)), "2026-03-01"), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_accessible_and_asks_for_nothing(
    visit: Opens, page: Path, scheme: str, width: int
) -> None:
    visited = visit(page, width=width, color_scheme=scheme)
    assert problems(visited) == []
    assert (visited.complaints, visited.requests) == ([], [])
    assert visited.ask(OVERFLOW) == 0


def test_plots_are_named_and_described(visit: Opens, page: Path) -> None:
    plots = visit(page).ask(
        """() => [...document.querySelectorAll(".chart svg")].map((svg) => [
            svg.getAttribute("aria-label"),
            document.getElementById(svg.getAttribute("aria-describedby"))?.textContent,
        ])"""
    )
    assert len({name for name, _ in plots}) == len(plots) == 6
    assert all(described for _, described in plots)
