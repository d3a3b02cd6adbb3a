"""The benchmark of verdicts: its simulation agrees with what the statistics promise."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gates(monkeypatch):
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gates

    return gates


def test_shares_of_verdicts(gates) -> None:
    deviation = gates.spread(0.0075, 8)
    generator = np.random.default_rng(1)
    at_limit = gates.shares(0.02, 0.02, 50, deviation, 1_000, generator)
    assert sum(at_limit.values()) == pytest.approx(1)
    assert at_limit["held"] == pytest.approx(0.05, abs=0.021)  # three standard errors
    assert at_limit["broken"] == pytest.approx(0.05, abs=0.021)
    sized = gates.shares(0.02, 0.02 * 4 / 3, 111, deviation, 1_000, generator)
    assert sized["broken"] == pytest.approx(0.95, abs=0.021)


def test_the_table_has_a_row_for_each_number_of_documents(gates) -> None:
    rows = gates.curves(0.02, gates.spread(0.0075, 8), 2, seed=1)
    lines = gates.table(rows).splitlines()
    assert [int(line.split()[0]) for line in lines[1:]] == list(gates.DOCUMENTS)
    assert lines[0].count("x limit") == len(gates.RISES)
