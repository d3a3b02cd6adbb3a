"""The example run and its facts."""

from __future__ import annotations

import dataclasses
from functools import cache

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


@cache
def _drawn_once() -> page.Charts:
    return page.draw(gather(full_run()))


@pytest.fixture
def charts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the charts of the full run once for all tests that read only the page's text and tables."""
    drawn = _drawn_once()
    monkeypatch.setattr(page, "draw", lambda _: drawn)
