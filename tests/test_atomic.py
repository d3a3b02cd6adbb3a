"""Files and folders are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.atomic import atomic_file, atomic_folder, publish_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("options", [{}, {"durable": False}, {"concurrent": True}])
def test_a_file_appears_at_the_end_and_an_error_leaves_the_old_one(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old", **options)

    def fail() -> None:
        with atomic_file(path, **options) as scratch:
            scratch.write_text("half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (names(tmp_path), path.read_text()) == (["notes.txt"], "old")
    write_text(path, "new", **options)
    assert (names(tmp_path), path.read_text()) == (["notes.txt"], "new")


@pytest.mark.parametrize("options", [{}, {"durable": False}, {"concurrent": True}])
def test_a_folder_appears_at_the_end_and_an_error_leaves_nothing(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "a" / "b" / "out"

    def write(error: type[BaseException] | None) -> None:
        with atomic_folder(path, **options) as folder:
            (folder / "weights").write_text("x")
            assert not path.exists()
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt)
    assert names(tmp_path) == []
    write(None)
    assert names(path.parent) == ["out"]
    assert names(path) == ["weights"]
    with pytest.raises(OSError, match="not empty"), atomic_folder(path, **options):
        pass
    assert (names(path.parent), names(path)) == (["out"], ["weights"])


def test_leftovers_of_a_kill_and_an_empty_folder_are_replaced(tmp_path: Path) -> None:
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished" / "half").write_text("x")
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as folder:
        assert names(folder) == []
    assert names(tmp_path) == ["out"]


def test_a_former_folder_is_moved_away(tmp_path: Path) -> None:
    for name in ("new", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    publish_folder(tmp_path / "new", tmp_path / "out", former=tmp_path / "old")
    assert (names(tmp_path / "out"), names(tmp_path / "old")) == (["new"], ["out"])
