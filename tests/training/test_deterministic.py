"""Algorithms that repeat their results: asked for in time, and without compromise."""

import os

import pytest
import torch

from cpt.cli import main
from cpt.errors import StageFailed
from cpt.training.deterministic import deterministic

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def test_the_command_prepares_products_before_any_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS, raising=False)
    main(["--version"])
    assert os.environ[CUBLAS] == ":4096:8"
    monkeypatch.setenv(CUBLAS, ":16:8")
    main(["--version"])
    assert os.environ[CUBLAS] == ":16:8"


def test_nothing_else_is_used_inside_and_all_is_as_before_after_it() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_such_an_algorithm_is_a_failure_that_says_what_to_do() -> None:
    told = "x_cuda does not have a deterministic implementation, but you set "
    with pytest.raises(StageFailed, match="x_cuda does not have") as caught, deterministic(True):
        raise RuntimeError(f"{told}'torch.use_deterministic_algorithms(True)'. You can turn off determinism")
    assert caught.value.hint == "Set deterministic: false."
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="out of memory"), deterministic(True):
        raise RuntimeError("out of memory")
