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
from cpt.training.checkpoint.store import Store
from cpt.training.distributed import agreement
from cpt.training.distributed.agreement import (
    require_equal_replicas,
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


def replicas(*others: dict[str, torch.Tensor], shards: int = 1) -> Any:
    """Processes of which the first is this one, and the others hold other weights."""
    count = 1 + len(others)

    def gather(own: list[int]) -> list[list[int]]:
        of_others = [[int(agreement._sum_of_bits(w)) for w in weights.values()] for weights in others]
        return [own, *of_others]

    sharding = None if shards == 1 else "FSDP2"
    return SimpleNamespace(count=count, replicas=count // shards, sharding=sharding, gather=gather)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece", [3, 1 << 24])
def test_the_first_weight_that_differs_between_replicas_is_named(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, piece: int
) -> None:
    monkeypatch.setattr(agreement, "_PIECE", piece)
    own = {name: torch.randn(4, 5).to(dtype) for name in ("a", "b", "c")}
    assert int(agreement._sum_of_bits(own["a"])) == sum(
        own["a"].flatten().view(torch.int32 if dtype == torch.float32 else torch.int16).tolist()
    )
    same, other = ({name: tensor.clone() for name, tensor in own.items()} for _ in range(2))
    require_equal_replicas(replicas(same, same), own, 7)
    for name in ("b", "c"):
        other[name].view(torch.int16)[2, 2] ^= 1  # the smallest difference there is
    with pytest.raises(
        StageFailed, match=r"after step 7 process 2 has other weights .*process 0.*: b is"
    ) as told:
        require_equal_replicas(replicas(same, other), own, 7)
    assert "`deterministic: true`" in str(told.value.hint)


def test_shards_are_compared_with_those_of_their_replicas_alone() -> None:
    first, second = ({"a": torch.full((2,), value)} for value in (1.0, 2.0))
    require_equal_replicas(replicas(second, first, second, shards=2), first, 1)
    with pytest.raises(StageFailed, match="process 3 has other weights than process 1"):
        require_equal_replicas(replicas(second, first, first, shards=2), first, 1)
    alone = replicas(second, shards=2)
    alone.gather = None  # without replicas nothing is compared
    require_equal_replicas(alone, first, 1)


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
    jobs = {name: {"second": each} for name, each in differ.items()}
    harmed = {"harmed": {"second": {"harmed": 3}}, "late": {"second": {"harmed": 6}}}
    return several.run_in(folder, tiny_model, jobs | harmed)


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


def test_a_replica_that_changes_is_found_at_the_next_checkpoint(done: Path) -> None:
    for rank in range(2):
        reason = (done / f"harmed-{rank}.txt").read_text()
        assert "after step 4 process 1 has other weights than process 0" in reason
        assert "model.layers.0.self_attn.q_proj.weight is the first" in reason
    assert Store(done / "work/harmed", keep=2).steps() == [2]


def test_a_replica_that_changes_after_the_last_checkpoint_is_found_at_the_end(done: Path) -> None:
    for rank in range(2):
        assert "after step 6 process 1 has other weights" in (done / f"late-{rank}.txt").read_text()
    assert not (done / "late-0.json").exists()
