"""Processes that begin with other settings, weights or text than each other are refused, not trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import several
import torch
from safetensors.torch import load_file, save_file
from tiny_training import Row
from torch import nn

from cpt.errors import StageFailed
from cpt.training.distributed.agreement import (
    require_same_rows,
    require_same_settings,
    require_same_weights,
)


def told(*others: Any) -> Any:
    """Processes of which the first is this one, and the others told something else."""
    return SimpleNamespace(count=1 + len(others), gather=lambda own: [own, *others])


def told_alike(*changes: dict[str, Any]) -> Any:
    """Processes of which the others told the same with some changes."""
    return SimpleNamespace(
        count=1 + len(changes), gather=lambda own: [own, *({**own, **each} for each in changes)]
    )


def test_equal_settings_pass_and_others_are_named() -> None:
    settings = {"dtype": "torch.bfloat16", "steps": 4}
    require_same_settings(told(), settings)
    require_same_settings(told_alike({}, {}), settings)
    with pytest.raises(StageFailed, match="process 2 would train with dtype float32, and the main process"):
        require_same_settings(told_alike({}, {"dtype": "float32"}), settings)
    with pytest.raises(StageFailed, match="with steps None"):
        require_same_settings(told({"dtype": "torch.bfloat16"}), settings)


@pytest.mark.parametrize("harm", ["change", "swap rows"])
def test_any_other_weight_is_found(harm: str) -> None:
    seen: list[dict[str, int]] = []
    processes: Any = SimpleNamespace(count=2, gather=lambda own: (seen.append(own), [own, seen[0]])[1])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(2, 2, dtype=torch.bfloat16))
    require_same_weights(processes, model)
    require_same_weights(processes, model)
    with torch.no_grad():
        if harm == "change":
            model[1].weight[1, 0] *= -1
        else:
            model[0].weight.copy_(model[0].weight.flip(0))
    name = "1.weight" if harm == "change" else "0.weight"
    with pytest.raises(StageFailed, match=f"process 1 begins with other weights than the main.*: {name}"):
        require_same_weights(processes, model)


def test_other_tokens_are_found() -> None:
    def rows(last: int) -> list[Row]:
        tokens = np.array([1, 2, last], dtype=np.uint32)
        return [Row(source="domain", tokens=tokens, piece_lengths=np.array([3]), weights=None, plain=None)]

    seen: list[dict[str, int]] = []
    processes: Any = SimpleNamespace(count=2, gather=lambda own: (seen.append(own), [own, seen[0]])[1])
    require_same_rows(processes, rows(3))
    require_same_rows(processes, rows(3))
    with pytest.raises(StageFailed, match="process 1 reads other text"):
        require_same_rows(processes, rows(4))


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes told that began differently."""
    folder = tmp_path_factory.mktemp("differ")
    other = shutil.copytree(tiny_model, folder / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    differ: dict[str, dict[str, Any]] = {
        "settings": {"settings": {"dtype": "bfloat16"}},
        "weights": {"model": str(other)},
        "text": {"rows": 3},
    }
    return several.run_in(folder, tiny_model, {name: {"second": each} for name, each in differ.items()})


@pytest.mark.parametrize(
    ("name", "reason"),
    {
        "settings": "with dtype torch.bfloat16, and the main process with torch.float32",
        "weights": "process 1 begins with other weights than the main process: model.norm.weight",
        "text": "process 1 reads other text than the main process",
    }.items(),
)
def test_all_processes_end_before_the_first_step(done: Path, name: str, reason: str) -> None:
    for rank in range(2):
        assert reason in (done / f"{name}-{rank}.txt").read_text()
    assert not (done / f"{name}-0.json").exists()
