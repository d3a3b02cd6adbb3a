"""Segments of GPU memory grow while a model trains, unless the user has set the allocator."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import SETTINGS, run

from cpt.training import compilation, loop
from cpt.training.distributed.environment import grow_segments


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has segments that grow")
@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, ["expandable_segments:True"]),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, []),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:False"}, []),
    ],
)
def test_segments_of_gpu_memory_grow_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], asked: list[str]
) -> None:
    told: list[str] = []
    unset = {name: each for name, each in os.environ.items() if "ALLOC_CONF" not in name}
    monkeypatch.setattr(os, "environ", unset | given)
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)
    grow_segments()
    assert told == asked
    assert os.environ == unset | given  # vLLM's processes inherit nothing


def test_only_training_on_a_gpu_asks_for_them(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(loop, "grow_segments", lambda: asked.append("segments"))
    monkeypatch.setattr(compilation, "compiler_obstacle", lambda **_: "no compiler")
    run(tiny_model, tmp_path / "cpu", SETTINGS.with_changes(steps=1))
    assert asked == []
    run(tiny_model, tmp_path / "gpu", SETTINGS.with_changes(on_gpu=True, steps=1))
    assert asked == ["segments"]
