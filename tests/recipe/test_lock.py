"""One process at a time in a run's folder, whatever becomes of the lock's file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_stages
import pytest

from cpt.errors import StageFailed, UsageError
from cpt.recipe.load import load
from cpt.recipe.lock import FolderLock, is_held
from cpt.recipe.runner import run
from cpt.recipe.store import Store

ASK = "import sys; from pathlib import Path; from cpt.recipe.store import Store\n"
TAKE = f"{ASK}with Store(Path(sys.argv[1])).lock(): print('taken')"
LOOK = f"{ASK}print(Store(Path(sys.argv[1])).locked())"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "runs" / "medical")
    made.prepare()
    return made


def elsewhere(code: str, store: Store) -> str:
    """Run code in another process and return what it prints."""
    command = [sys.executable, "-c", code, str(store.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


def test_another_process_is_kept_out_and_let_in_again(store: Store) -> None:
    with store.lock():
        assert "is being run by another process" in elsewhere(TAKE, store)
        assert elsewhere(LOOK, store) == "True"
    assert elsewhere(LOOK, store) == "False"
    assert elsewhere(TAKE, store) == "taken"


def test_another_process_is_kept_out_when_the_file_was_removed(store: Store) -> None:
    with store.lock():
        (store.folder / ".lock").unlink()
        assert "is being run by another process" in elsewhere(TAKE, store)
        assert elsewhere(LOOK, store) == "True"


def test_looking_creates_nothing(store: Store) -> None:
    assert not store.locked()
    assert list(store.folder.iterdir()) == []
    assert not Store(store.folder / "none").locked()


def files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system that locks files only."""
    monkeypatch.setattr("cpt.recipe.lock._lock_folder", lambda *_, **__: None)


def test_where_files_alone_are_locked_another_process_is_kept_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_only(monkeypatch)
    with store.lock():
        assert Store(store.folder).locked()
        with pytest.raises(UsageError, match="another process"), Store(store.folder).lock():
            pass
    assert not store.locked()


@pytest.mark.parametrize("again", [False, True])
def test_where_files_alone_are_locked_nothing_is_published_after_the_lock_is_gone(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    files_only(monkeypatch)

    def remove(*_: object) -> None:
        file = recipe_file.parent / "runs" / "medical" / ".lock"
        other = file.with_name("other")
        other.touch()
        file.unlink()
        if again:
            other.rename(file)  # as another process that locks it

    fake_stages.HOOKS["merge"] = remove
    with pytest.raises(StageFailed, match="was removed while the run went on"):
        run(load(recipe_file), recipe_file.parent / "runs")
    assert not list((recipe_file.parent / "runs" / "medical").glob("merge-????????????"))


def test_nothing_is_published_into_a_folder_that_was_replaced(recipe_file: Path) -> None:
    root = recipe_file.parent / "runs"

    def replace(*_: object) -> None:
        (root / "medical").rename(root / "away")
        shutil.copytree(root / "away", root / "medical")

    fake_stages.HOOKS["merge"] = replace
    with pytest.raises(StageFailed, match="was removed while the run went on"):
        run(load(recipe_file), root)


def test_a_lock_of_another_machine_is_seen_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS a folder's own lock is of one machine: everyone else gets it at once."""
    lock = FolderLock(tmp_path)
    assert lock.acquire(0)
    monkeypatch.setattr("cpt.recipe.lock._lock_folder", lambda *_, **__: os.open(tmp_path, os.O_RDONLY))
    assert is_held(tmp_path)
    lock.release()
    assert not is_held(tmp_path)
