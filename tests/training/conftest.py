"""Fixtures of training, and the folder of their helpers for the tests below."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import PlainRun, run


@pytest.fixture(scope="session")
def plain_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> PlainRun:
    """An undisturbed run, to compare others with; do not write into its folder."""
    work = tmp_path_factory.mktemp("plain")
    weights, result, _ = run(tiny_model, work)
    return PlainRun(weights, result, work)
