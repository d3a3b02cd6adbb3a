"""Checkpoints whose tensors are sharded: every process writes and reads its own rows, and all agree.

The processes are threads here; `test_sharded_checkpoints.py` has real ones.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict, namedtuple
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_processes import process
from safetensors.torch import load_file
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import Parameter

from cpt import atomic
from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint import shards, snapshot
from cpt.training.checkpoint import store as stores
from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.stateful import OptimizerState, WeightState
from cpt.training.checkpoint.store import LAST_GOOD, Store
from cpt.training.checkpoint.stored import StoredTensor
from cpt.training.distributed.tensors import Layout, rows_per_shard

WHOLE = {
    "even": torch.arange(24.0).view(8, 3),
    "uneven": torch.arange(14).view(7, 2),
    "few": torch.arange(3.0).bfloat16(),
}
COUNT = torch.tensor(5.0)


class Peer:
    """One of some threads that gather data from each other."""

    def __init__(self, rank: int, data: list[Any], barrier: Barrier) -> None:
        self.rank, self.count, self._data, self._barrier = rank, len(data), data, barrier

    def gather(self, data: Any) -> list[Any]:
        self._barrier.wait(20)
        self._data[self.rank] = data
        self._barrier.wait(20)
        return list(self._data)


def together(count: int, do: Callable[[Peer], Any]) -> list[Any]:
    """Run a function in some threads; returns what each returned or raised."""
    data, barrier, told = [None] * count, Barrier(count), [None] * count

    def run(rank: int) -> None:
        try:
            told[rank] = do(Peer(rank, data, barrier))
        except Exception as error:
            told[rank] = error

    threads = [Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def shard_of(rank: int, count: int, step: int = 2) -> Snapshot:
    """Return one process's rows of the tensors of `WHOLE`, and a number that each process has."""
    mesh = SimpleNamespace(size=lambda _: count)
    layouts = {k: Layout(mesh, [Shard(0)], t.shape, t.stride()) for k, t in WHOLE.items()}
    own = {}
    for key, tensor in WHOLE.items():
        rows = rows_per_shard(len(tensor), count)
        own[key] = (tensor + step - 2)[rows * rank : rows * (rank + 1)].clone()
    tensors = {"weights": own, "optimizer": {"even/step": COUNT}}
    data = {"weights": {}, "optimizer": {"rank": rank}}
    return Snapshot(step, tensors, data, {"weights": layouts})


def saved(folder: Path, count: int, *steps: int) -> Store:
    """Checkpoints that some processes have written."""
    for step in steps:
        told = together(
            count, lambda peer, step=step: Store(folder, 2).save({"": shard_of(peer.rank, count, step)}, peer)
        )
        assert told == [None] * count
    return Store(folder, 2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_is_read_is_what_all_have_written(tmp_path: Path, count: int) -> None:
    store = saved(tmp_path, count, 2)
    found, wrong = store.newest()
    assert (found[""].step, wrong) == (2, [])
    assert found[""].data["optimizer"] == {"rank": 0}
    assert torch.equal(found[""].tensors["optimizer"]["even/step"].clone(), COUNT)
    for key, tensor in WHOLE.items():
        stored = found[""].tensors["weights"][key]
        assert (stored.shape, stored.ndim) == (tensor.shape, tensor.ndim)
        assert torch.equal(stored.clone(), tensor)
        for first in range(len(tensor) + 1):
            for last in range(first, len(tensor) + 1):
                rows = stored.rows(first, last)
                assert rows.dtype == tensor.dtype
                assert torch.equal(rows, tensor[first:last])


@pytest.mark.parametrize("count", [2, 3])
def test_rows_without_numbers_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setitem(WHOLE, "none", torch.zeros(5, 0))  # moments of FRUGAL with density: 0
    found, _ = saved(tmp_path, count, 2).newest()
    stored = found[""].tensors["weights"]["none"]
    assert [stored.rows(first, last).shape for first, last in ((0, 5), (3, 5), (5, 5))] == [
        (5, 0),
        (2, 0),
        (0, 0),
    ]
    assert stored.clone().shape == (5, 0)


def test_every_file_has_one_process_s_rows_and_the_first_all_that_is_whole(tmp_path: Path) -> None:
    store = saved(tmp_path, 4, 2)
    folder = store.path(2)
    files = ["shard-00000", "shard-00001", "shard-00002", "shard-00003"]
    assert names(folder) == [
        "checkpoint.json",
        *(f"{f}.safetensors" for f in files),
        "state.json",
        "tensors.json",
    ]
    first, *_, last = (load_file(folder / f"{file}.safetensors") for file in files)
    assert set(first) == {"weights/even", "weights/uneven", "weights/few", "optimizer/even/step"}
    assert set(last) == {"weights/even", "weights/uneven"}  # three rows are in three files
    assert torch.equal(last["weights/uneven"], WHOLE["uneven"][6:])


def test_of_replicas_of_shards_one_writes(tmp_path: Path) -> None:
    def save(peer: Peer) -> None:
        snapshot = shard_of(peer.rank, 2) if peer.rank < 2 else Snapshot(2, {}, {})
        Store(tmp_path, 1).save({"": snapshot}, peer)

    assert together(4, save) == [None] * 4
    folder = Store(tmp_path, 1).path(2)
    assert [name for name in names(folder) if name.startswith("shard")] == [
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]


def test_the_last_good_snapshot_is_in_its_own_folder(tmp_path: Path) -> None:
    def save(peer: Peer) -> None:
        Store(tmp_path, 1).save({"": shard_of(peer.rank, 2, 5), LAST_GOOD: shard_of(peer.rank, 2, 3)}, peer)

    assert together(2, save) == [None] * 2
    found, _ = Store(tmp_path, 1).newest()
    assert found[LAST_GOOD].step == 3
    assert torch.equal(found[LAST_GOOD].tensors["weights"]["even"].clone(), WHOLE["even"] + 1)
    assert torch.equal(found[""].tensors["weights"]["even"].clone(), WHOLE["even"] + 3)


@pytest.mark.parametrize("file", ["shard-00000.safetensors", "shard-00002.safetensors", "tensors.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_all_processes_leave_a_damaged_checkpoint_for_the_one_before(
    tmp_path: Path, file: str, harm: str
) -> None:
    store = saved(tmp_path, 3, 2, 4)
    path = store.path(4) / file
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 0xFF
    path.unlink() if harm == "remove" else path.write_bytes(content[: -10 if harm == "cut" else None])
    says = {"flip": "does not match its checksum", "cut": "bytes instead of", "remove": "is missing"}
    for found, (wrong,) in together(2, lambda peer: Store(tmp_path, 2).newest(peer)):
        assert found[""].step == 2
        assert f"the checkpoint of step 4 is unreadable and is removed: {file}" in wrong
        assert says[harm] in wrong
    assert names(tmp_path) == ["step-000000002"]


def test_each_file_is_verified_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 4, 2)
    verified: list[str] = []
    verify = stores.verify
    monkeypatch.setattr(stores, "verify", lambda *given: (verified.append(given[1]), verify(*given)))
    together(3, lambda peer: Store(tmp_path, 2).newest(peer))
    assert sorted(verified) == [
        name for name in names(Store(tmp_path, 2).path(2)) if name != "checkpoint.json"
    ]


def test_processes_that_see_different_files_are_told_to_share_a_folder(tmp_path: Path) -> None:
    saved(tmp_path / "0", 2, 2)
    saved(tmp_path / "1", 2, 2, 4)
    told = together(2, lambda peer: Store(tmp_path / str(peer.rank), 2).newest(peer))
    for error in told:
        assert isinstance(error, StageFailed)
        assert "disagree on the checkpoint to continue from: 2, 4" in error.message
        assert "share" in error.hint
    assert names(tmp_path / "1") == ["step-000000002", "step-000000004"]


def test_a_process_that_does_not_see_the_folder_of_the_others_is_told_so(tmp_path: Path) -> None:
    told = together(
        2, lambda peer: Store(tmp_path / str(peer.rank), 2).save({"": shard_of(peer.rank, 2)}, peer)
    )
    for error in told:
        assert isinstance(error, StageFailed)
        assert "this process does not see it" in str(error)
    assert names(tmp_path / "0") == names(tmp_path / "1") == []


KILLS = {
    "before the second shard": (shards, "save_file", "shard-00001", False, 2),
    "after the second shard": (shards, "save_file", "shard-00001", True, 2),
    "after the first shard": (shards, "save_file", "shard-00000", True, 2),
    "before the index": (shards, "_write_index", "", False, 2),
    "after the index": (shards, "_write_index", "", True, 2),
    "before the list of files": (shards, "write_manifest", "", False, 2),
    "after the list of files": (shards, "write_manifest", "", True, 2),
    "before the rename": (atomic, "publish_folder", "", False, 2),
    "after the rename": (atomic, "publish_folder", "", True, 4),
    "before the old one is removed": (stores.shutil, "rmtree", "step-000000002", False, 4),
}
"""Function that is reached, part of the path that it gets, whether it has run, and the newest whole step."""


@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, moment: str) -> None:
    module, name, part, done, newest = KILLS[moment]
    saved(tmp_path, 2, 2)
    if (child := os.fork()) == 0:
        function = getattr(module, name)

        def killed(*given: Any, **named: Any) -> Any:
            here = part in " ".join(map(str, given[:2] if name != "save_file" else given[1:2]))
            result = function(*given, **named) if done or not here else None
            if here:
                os._exit(9)
            return result

        setattr(module, name, killed)
        together(2, lambda peer: Store(tmp_path, 1).save({"": shard_of(peer.rank, 2, 4)}, peer))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    for found, wrong in together(3, lambda peer: Store(tmp_path, 1).newest(peer)):
        assert (found[""].step, wrong) == (newest, [])
        assert torch.equal(found[""].tensors["weights"]["even"].clone(), WHOLE["even"] + newest - 2)
    assert not [each for each in names(tmp_path) if each.startswith(".")]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_if_one_process_cannot_write_all_hear_of_it_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, number: int
) -> None:
    saved(tmp_path, 2, 2)
    save_file = shards.save_file

    def broken(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name == f"shard-0000{rank}.safetensors":
            raise OSError(number, os.strerror(number))
        save_file(tensors, path)

    monkeypatch.setattr(shards, "save_file", broken)
    told = together(2, lambda peer: Store(tmp_path, 1).save({"": shard_of(peer.rank, 2, 4)}, peer))
    if number == errno.ENOSPC:
        assert [type(error) for error in told] == [DiskFull, DiskFull]
    else:
        assert isinstance(told[rank], OSError)
        assert f"process {rank} could not write its part of a checkpoint" in str(told[1 - rank])
    assert names(tmp_path) == ["step-000000002"]


def test_a_disk_that_is_too_small_for_all_shards_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, size = namedtuple("usage", "total used free"), sum(t.nbytes for t in [*WHOLE.values(), COUNT])
    assert shard_of(1, 4).bytes == size
    monkeypatch.setattr(snapshot.shutil, "disk_usage", lambda _: usage(0, 0, size))
    monkeypatch.setattr(shards, "save_file", lambda *_: pytest.fail("it was written"))
    told = together(2, lambda peer: Store(tmp_path, 1).save({"": shard_of(peer.rank, 2)}, peer))
    assert [(type(error), error.free) for error in told] == [(DiskFull, size)] * 2
    assert names(tmp_path) == []


@pytest.mark.parametrize("writers", [1, 2, 3])
def test_objects_read_the_rows_that_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writers: int
) -> None:
    weight = torch.arange(10.0).view(5, 2)
    if writers == 1:
        Store(tmp_path, 1).save({"": Snapshot(2, {"weights": {"w": weight}}, {})})
    else:
        monkeypatch.setitem(WHOLE, "w", weight)
        saved(tmp_path, writers, 2)
    found, _ = Store(tmp_path, 1).newest()
    stored = {"w": found[""].tensors["weights"]["w"]}
    monkeypatch.setattr(StoredTensor, "clone", lambda _: pytest.fail("a whole tensor was read"))
    rows = []
    for rank in range(4):
        with process(rank, 4) as mesh:
            own = Parameter(distribute_tensor(torch.zeros(5, 2), mesh, [Shard(0)], src_data_rank=None))
            WeightState({"w": own}, lambda: None).load_state_dict(stored)
            optimizer: Any = SimpleNamespace(state=defaultdict(dict))
            OptimizerState(optimizer, {"w": own}).load_state_dict(
                {"w/exp_avg": stored["w"], "kept on the host": []}
            )
            moment = optimizer.state[own]["exp_avg"]
            assert (moment.shape, moment.placements) == (own.shape, own.placements)
            assert torch.equal(moment.to_local(), own.to_local())
            rows.append(own.to_local().detach().clone())
    assert torch.equal(torch.cat(rows), weight)
