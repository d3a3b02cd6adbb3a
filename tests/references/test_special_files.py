"""Devices, pipes and sockets are refused before they are opened; loops of links end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cpt import references
from cpt.errors import SourceError
from cpt.references.cache import file_sha256, open_file


@pytest.fixture(params=["pipe", "socket", "device", "link to a pipe"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that is neither a file nor a folder; opening the pipe or reading the device would not end."""
    path = tmp_path / "source.jsonl"
    if request.param == "device":
        return Path("/dev/zero")
    if request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(tmp_path)  # a socket's path must be short
            server.bind(path.name)
        return path
    os.mkfifo(path)
    if request.param == "pipe":
        return path
    (tmp_path / "link").symlink_to(path)
    return tmp_path / "link"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


def test_it_is_a_problem_of_the_recipe(special: Path, tmp_path: Path) -> None:
    problem = references.check(str(special), tmp_path)
    assert problem is not None
    assert "not a file or folder" in problem.message
    assert str(special) in problem.message


@pytest.mark.parametrize("door", [references.fingerprint, references.resolve_file, references.resolve_model])
def test_no_door_opens_it(special: Path, door) -> None:
    with pytest.raises(SourceError, match=r"is a (named pipe|socket|device), not a file or folder"):
        door(str(special))


@pytest.mark.parametrize("door", [file_sha256, open_file])
def test_one_that_takes_a_files_place_is_not_read(special: Path, door) -> None:
    with pytest.raises(SourceError, match="not a file or folder"):
        door(special)


def test_a_pipe_in_a_folder_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    before = references.fingerprint("data")
    os.mkfifo(folder / "pipe.jsonl")
    assert references.fingerprint("data") == before


def test_loops_of_links_end(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    before = references.fingerprint("data")
    (folder / "again").symlink_to(folder)
    (folder / "self.jsonl").symlink_to("self.jsonl")
    assert references.fingerprint("data") == before
    problem = references.check("data/self.jsonl", tmp_path)
    assert problem is not None
    assert "no such file or folder" in problem.message
