"""Fixtures that every package's tests can use."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder; do not write into it."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def another_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes further tiny models: `another_model("b", seed=1)`."""
    return lambda name, **options: write_tiny_model(tmp_path / name, **options)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C as in a terminal, also where the tests were started in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
