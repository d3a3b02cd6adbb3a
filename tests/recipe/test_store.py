"""Artifacts are whole or absent, whatever happens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cpt.errors import UsageError
from cpt.recipe.store import Record, Store

FINGERPRINT = "ab" * 32


def write(store: Store, text: str = "x", stage: str = "pre-train", created: str = "1") -> Record:
    with store.writing(stage, FINGERPRINT) as aside:
        (aside / "model").mkdir()
        (aside / "model" / "weights").write_text(text)
        record = Record(
            name=stage,
            stage="pretrain",
            kinds=("model",),
            fingerprint=FINGERPRINT,
            folder=aside,
            created=created,
            sources={"model": "base"},
        )
        return store.finish(record)


def left(store: Store) -> list[str]:
    """What is in the run's folder, beside the note of which files were found right."""
    return [path.name for path in store.folder.iterdir() if path.name != ".verified.json"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "runs" / "medical")
    made.prepare()
    return made


def test_a_finished_artifact_is_found_as_it_was_written(store: Store) -> None:
    record = write(store)
    assert record.folder.name == "pre-train-abababababab"
    assert store.find("pre-train", FINGERPRINT) == record
    assert store.artifacts() == store.artifacts("pre-train") == [record]
    assert store.artifacts("train") == []
    written = json.loads((record.folder / "artifact.json").read_text())
    assert "folder" not in written
    assert record.path("model").joinpath("weights").read_text() == "x"


def test_an_exception_leaves_only_the_scratch_folder(store: Store) -> None:
    def fail() -> None:
        with store.writing("merge", FINGERPRINT) as aside:
            (aside / "half").write_text("x")
            (store.work_folder("merge", FINGERPRINT) / "checkpoint").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.artifacts() == []
    assert store.has_partial("merge", FINGERPRINT)
    assert [path.name for path in store.folder.iterdir()] == ["merge-abababababab.partial"]


def test_finishing_removes_the_scratch_folder(store: Store) -> None:
    write(store)
    assert not store.has_partial("pre-train", FINGERPRINT)
    assert left(store) == ["pre-train-abababababab"]


def test_a_result_is_on_the_disk_before_the_scratch_folder_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[str] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        if store.has_partial("pre-train", FINGERPRINT):
            flushed.add(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with store.writing("pre-train", FINGERPRINT):
        (store.work_folder("pre-train", FINGERPRINT) / "checkpoint").write_text("x")
        write(store)
    aside = store.folder / ".tmp-pre-train-abababababab"
    assert {str(aside / "model/weights"), str(aside / "model"), str(store.folder)} <= flushed


def test_a_second_result_replaces_the_first(store: Store) -> None:
    write(store, "old")
    record = write(store, "new")
    assert (record.path("model") / "weights").read_text() == "new"
    assert left(store) == ["pre-train-abababababab"]


def test_the_first_survives_when_the_second_fails(store: Store) -> None:
    record = write(store, "old")
    with pytest.raises(RuntimeError), store.writing("pre-train", FINGERPRINT):
        raise RuntimeError
    assert (record.path("model") / "weights").read_text() == "old"


def test_cleaning_after_a_kill_while_writing(store: Store) -> None:
    (store.folder / ".tmp-merge-abababababab").mkdir()
    (store.folder / ".tmp-merge-abababababab" / "half").write_text("x")
    store.clean()
    assert list(store.folder.iterdir()) == []


def test_cleaning_after_a_kill_between_the_two_renames(store: Store) -> None:
    record = write(store, "old")
    record.folder.rename(store.folder / f".old-{record.folder.name}")
    assert store.find("pre-train", FINGERPRINT) is None
    store.clean()
    assert store.find("pre-train", FINGERPRINT) == record


def test_cleaning_after_a_kill_before_the_old_one_was_removed(store: Store) -> None:
    record = write(store, "new")
    (store.folder / f".old-{record.folder.name}").mkdir()
    store.clean()
    assert left(store) == ["pre-train-abababababab"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": "x", "kinds": 3}', None])
def test_a_damaged_artifact_counts_as_absent(store: Store, content: str | None) -> None:
    record = write(store)
    file = record.folder / "artifact.json"
    file.unlink() if content is None else file.write_text(content)
    assert store.find("pre-train", FINGERPRINT) is None
    assert store.damaged("pre-train", FINGERPRINT)
    assert store.artifacts() == []


def test_an_artifact_without_its_content_counts_as_absent(store: Store) -> None:
    record = write(store)
    record.path("model").rename(store.folder / "elsewhere")
    assert store.damaged("pre-train", FINGERPRINT)


def test_only_the_full_fingerprint_counts(store: Store) -> None:
    write(store)
    assert store.find("pre-train", FINGERPRINT[:12] + "0" * 52) is None


def test_artifacts_come_oldest_first(store: Store) -> None:
    newer, older = write(store, stage="a", created="2"), write(store, stage="b", created="1")
    assert store.artifacts() == [older, newer]


def test_the_lock_is_for_one(store: Store) -> None:
    assert not store.locked()
    with store.lock():
        assert store.locked()
        with pytest.raises(UsageError, match="run by another process"), Store(store.folder).lock():
            pass
    assert not store.locked()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file") as caught:
        Store(tmp_path / "file" / "run").prepare()
    assert "--runs" in (caught.value.hint or "")


def test_a_folder_that_cannot_be_written_to(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", str(store.folder))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UsageError, match="permission denied"):
        store.prepare()
