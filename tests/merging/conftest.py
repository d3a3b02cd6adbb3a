"""Two models of one vocabulary."""

from pathlib import Path

import pytest
from merge_models import write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", seed=1)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_model(tmp_path / "other", seed=2)
