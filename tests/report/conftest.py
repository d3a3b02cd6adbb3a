"""The example run and its facts."""

from __future__ import annotations

import dataclasses

import pytest
from full_run import full_run
from medical_run import STAGES, medical_run

from cpt.report import page
from cpt.report.facts import RunRecord, gather
from cpt.report.schema import Facts


@pytest.fixture
def run() -> RunRecord:
    return medical_run()


@pytest.fixture(scope="session")
def facts() -> Facts:
    return gather(medical_run())


@pytest.fixture(scope="session")
def full() -> Facts:
    """Facts of a run with everything that a report can show."""
    return gather(full_run())


@pytest.fixture
def bare(run: RunRecord) -> RunRecord:
    """The base model alone: no stage has made anything yet."""
    return dataclasses.replace(run, stages=STAGES[:1], corpus=None, training=None, scores=None)


@pytest.fixture(scope="session")
def medical_page(facts: Facts) -> str:
    return page.render(facts)


@pytest.fixture(scope="session")
def full_charts(full: Facts) -> page.Charts:
    return page.draw(full)


@pytest.fixture(scope="session")
def full_page(full: Facts, full_charts: page.Charts) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "draw", lambda _: full_charts)
        return page.render(full)


@pytest.fixture
def charts_once(full_charts: page.Charts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the charts of the full run again, in tests that read only the page's text and tables."""
    monkeypatch.setattr(page, "draw", lambda _: full_charts)
