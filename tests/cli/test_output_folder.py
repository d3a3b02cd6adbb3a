"""A result's folder is there whole or not at all."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cpt.cli.tokenizer.options import staged_output
from cpt.errors import Terminated, UsageError


def test_it_takes_its_name_when_all_went_well(tmp_path: Path) -> None:
    with staged_output(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def stop_by_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_by_a_mistake() -> None:
    raise ValueError


@pytest.mark.parametrize(("stop", "error"), [(stop_by_sigterm, Terminated), (stop_by_a_mistake, ValueError)])
def test_nothing_is_left_when_not(
    tmp_path: Path, stop: Callable[[], None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        write_and(stop, tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def write_and(stop: Callable[[], None], output: Path) -> None:
    with staged_output(output) as folder:
        (folder / "file").write_text("x")
        stop()


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "full/file", "link"):
        with pytest.raises(UsageError, match="exists already"), staged_output(tmp_path / name):
            pytest.fail("it began")
    (tmp_path / "empty").mkdir()
    with staged_output(tmp_path / "empty") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "empty" / "file").exists()


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    output = tmp_path / "out"
    child = os.fork()
    if child == 0:
        with staged_output(output) as folder:
            (folder / "half").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
    with staged_output(output) as folder:
        (folder / "file").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in output.iterdir()] == ["file"]


def test_of_two_processes_one_writes(tmp_path: Path) -> None:
    with staged_output(tmp_path / "out") as folder:
        with pytest.raises(UsageError, match="another process is writing"), staged_output(tmp_path / "out"):
            pytest.fail("it began")
        (folder / "file").write_text("x")
    assert (tmp_path / "out" / "file").read_text() == "x"
