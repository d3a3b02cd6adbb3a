"""Checkpoints on the disk: whole or absent, the newest readable one found, old ones removed."""

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from made_parts import Made, equal
from safetensors import SafetensorError

from cpt.errors import DiskFull, StageFailed
from cpt.training.checkpoint import manifest, snapshot
from cpt.training.checkpoint import store as folders
from cpt.training.checkpoint.snapshot import require_space
from cpt.training.checkpoint.stateful import RandomNumbers
from cpt.training.checkpoint.store import LAST_GOOD, Store

FILES = [
    "weights.safetensors",
    "optimizer.safetensors",
    "pattern.safetensors",
    "state.json",
    "checkpoint.json",
]


def saved(store: Store, *steps: int) -> Made:
    """Checkpoints after each of some steps."""
    made = Made()
    for step in steps:
        made.train()
        store.save({"": made.snapshot(step)})
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=1)
    made = Made()
    made.parts["random"] = RandomNumbers()
    made.train()
    store.save({"": made.snapshot(3)})
    found, wrong = Store(tmp_path, keep=1).newest()
    assert (set(found), wrong) == ({""}, [])
    other = Made(seed=1)
    other.parts["random"] = RandomNumbers()
    found[""].restore(other.parts)
    assert equal(other.snapshot(3).copied(), made.snapshot(3).copied())
    made.train()
    found[""].restore(other.parts)
    other.train()
    assert equal(made.snapshot(), other.snapshot())  # the generators went on alike too
    assert names(store.path(3)) == sorted([*FILES, "random.safetensors"])


def test_the_last_good_snapshot_lies_in_its_own_folder(tmp_path: Path) -> None:
    made = Made()
    good = made.snapshot(2).copied()
    made.train()
    Store(tmp_path, keep=1).save({"": made.snapshot(3), LAST_GOOD: good})
    found, _ = Store(tmp_path, keep=1).newest()
    assert equal(found[LAST_GOOD], good)
    assert equal(found[""], made.snapshot(3))


@pytest.mark.parametrize(("keep", "left"), [(1, [2, 4, 5]), (2, [2, 4, 5]), (3, [2, 3, 4, 5])])
def test_keep_decides_how_many_stay_beside_those_that_stay_for_good(
    tmp_path: Path, keep: int, left: list[int]
) -> None:
    store = Store(tmp_path, keep, stays=lambda step: "milestone" if step % 2 == 0 else None)
    saved(store, 1, 2, 3, 4, 5)
    assert store.steps() == left[::-1]


@pytest.mark.parametrize("file", [*FILES, f"{LAST_GOOD}/weights.safetensors", f"{LAST_GOOD}/state.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, file: str, harm: str
) -> None:
    store = Store(tmp_path, keep=2)
    made = saved(store, 1)
    first = made.snapshot(1).copied()
    made.train()
    store.save({"": made.snapshot(2), LAST_GOOD: first})
    path = store.path(2) / file
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 0xFF
    path.unlink() if harm == "remove" else path.write_bytes(content[: -10 if harm == "cut" else None])
    found, (wrong,) = Store(tmp_path, keep=2).newest()
    assert found is not None
    assert equal(found[""], first)
    says = {
        "flip": "does not match its checksum",
        "cut": f"{len(content) - 10:,} bytes instead of",
        "remove": "missing",
    }
    expected = "is damaged" if file == "checkpoint.json" and harm != "remove" else says[harm]
    if not (file == "checkpoint.json" and harm == "flip"):  # a flipped sum makes its file the wrong one
        assert f"step 2 is unreadable and is removed: {file}" in wrong
        assert expected in wrong
    assert names(tmp_path) == ["step-000000001"]


def test_what_the_system_refuses_to_read_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(Store(tmp_path, keep=2), 1, 2)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "weights.safetensors")

    monkeypatch.setattr(manifest, "facts_of", refused)
    with pytest.raises(StageFailed, match=r"step-000000002 cannot be read: .*Permission denied"):
        Store(tmp_path, keep=2).newest()
    assert names(tmp_path) == ["step-000000001", "step-000000002"]


def test_when_none_is_readable_all_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=2)
    saved(store, 1, 2)
    for step in (1, 2):
        (store.path(step) / "state.json").unlink()
    found, wrong = Store(tmp_path, keep=2).newest()
    assert found is None
    assert [message.split(" is ")[0] for message in wrong] == [
        "the checkpoint of step 2",
        "the checkpoint of step 1",
    ]


def test_an_interrupted_write_is_not_seen_and_does_not_stay(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=1)
    saved(store, 1)
    store.path(1).rename(tmp_path / ".step-000000001")
    store = Store(tmp_path, keep=1)
    assert store.newest() == (None, [])
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["space", "quota", "safetensors"],
)
def test_a_disk_that_fills_up_leaves_the_old_checkpoint_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = Store(tmp_path, keep=1)
    made = saved(store, 1)
    save_file = folders.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name.startswith("optimizer"):
            raise error
        save_file(tensors, path)

    monkeypatch.setattr(folders, "save_file", full)
    with pytest.raises(DiskFull) as caught:
        store.save({"": made.snapshot(2)})
    assert str(tmp_path) in caught.value.message
    assert names(tmp_path) == ["step-000000001"]
    monkeypatch.undo()
    store.save({"": made.snapshot(2)})
    assert names(tmp_path) == ["step-000000002"]


def test_any_other_failure_leaves_no_debris_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(folders, "save_file", broken)
    with pytest.raises(OSError, match="Input/output"):
        saved(Store(tmp_path, keep=1), 1)
    assert names(tmp_path) == []


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made()
    made.train()
    free = made.snapshot().bytes + 100
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(snapshot.shutil, "disk_usage", lambda _: usage(0, 0, free))
    with pytest.raises(DiskFull) as caught:
        require_space(tmp_path, {"": made.snapshot()})
    assert caught.value.free == free < caught.value.needed
    assert f"{caught.value.needed:,} bytes are needed, {free:,} are free" in caught.value.message
    assert str(tmp_path) in caught.value.message
    free = caught.value.needed
    require_space(tmp_path, {"": made.snapshot()})
    with pytest.raises(DiskFull):
        require_space(tmp_path, {"": made.snapshot(), LAST_GOOD: made.snapshot()})
