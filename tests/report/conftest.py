"""The example run and its facts."""

from __future__ import annotations

import dataclasses

import pytest
from full_run import full_run
from medical_run import STAGES, medical_run

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
