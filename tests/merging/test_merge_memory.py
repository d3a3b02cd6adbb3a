"""What a merge is expected to take."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import input_model, write_model

from merging.kernels import CHUNK, expected_bytes
from merging.plan import Plan, plan
from merging.request import MergeRequest


def planned(method: str, base: Path, other: Path, **parameters: Any) -> Plan:
    shared = {"t": 0.5} if method == "slerp" else {}
    return plan(MergeRequest(method, (input_model(other, **parameters),), input_model(base), shared))


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, Path]:
    """Two models whose largest tensor is of eight chunks."""
    rows = 8 * CHUNK // 64
    settings = {"hidden_size": 64, "rows": rows}
    return write_model(tmp_path / "a", 1, **settings), write_model(tmp_path / "b", 2, **settings)  # type: ignore[arg-type]


def test_chunks_take_less_than_whole_tensors(large: tuple[Path, Path], monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    by_chunks = expected_bytes(planned("task-arithmetic", *large, weight=1.0))
    whole = expected_bytes(planned("slerp", *large))
    sorting = expected_bytes(planned("ties", *large, weight=1.0, density=0.5))
    kept = expected_bytes(planned("ties", *large, weight=1.0, density=1.0))
    assert by_chunks < 150 * CHUNK
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert (
        100 * CHUNK < expected_bytes(planned("task-arithmetic", *large, weight=1.0)) - by_chunks < 400 * CHUNK
    )
    assert whole > 8 * CHUNK * 4 * 3
    assert by_chunks < whole
    assert sorting > kept - CHUNK


def test_it_covers_every_tensor(base: Path, other: Path) -> None:
    merge = planned("slerp", base, other)
    largest = max(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in merge.tensors)
    assert expected_bytes(merge) >= 3 * largest
