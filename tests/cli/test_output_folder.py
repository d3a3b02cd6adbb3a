"""A result's folder is there whole or not at all."""

import os
import signal
from pathlib import Path

import pytest

from cpt.cli.tokenizer.output_folder import written_aside
from cpt.errors import UsageError


def test_it_takes_its_name_when_all_went_well(tmp_path: Path) -> None:
    with written_aside(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("how", [ValueError, KeyboardInterrupt, signal.SIGTERM])
def test_nothing_is_left_when_not(tmp_path: Path, how: object) -> None:
    with (
        pytest.raises(KeyboardInterrupt if how is signal.SIGTERM else how),  # type: ignore[arg-type]
        written_aside(tmp_path / "a" / "b") as folder,
    ):
        (folder / "file").write_text("x")
        if how is signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)
        raise how  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "full/file", "link"):
        with pytest.raises(UsageError, match="exists already"), written_aside(tmp_path / name):
            pytest.fail("it began")
    (tmp_path / "empty").mkdir()
    with written_aside(tmp_path / "empty") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "empty" / "file").exists()
