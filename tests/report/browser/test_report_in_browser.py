"""The page of a run as a browser sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Visit

from cpt.report.page import render
from cpt.report.schema import Facts


@pytest.fixture(scope="module")
def report(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(facts), encoding="utf-8")
    return file


def test_the_page_opens_without_complaints_and_asks_for_nothing(
    visit: Callable[..., Visit], report: Path
) -> None:
    visited = visit(report)
    assert (visited.complaints, visited.requests) == ([], [])
    assert visited.page.title() == "medical: run report"
