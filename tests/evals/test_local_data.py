"""A user's files: found by how their paths end."""

import hashlib
from pathlib import Path

import pytest

from evals.local_data import DataFolder, file_checksum
from evals.sources import Source

SOURCE = Source(
    name="toy",
    title="Toy",
    licence="none",
    origin="here",
    files={"test": "toy/{part}/test.tsv", "labels": "{part}.lst"},
    read=lambda files, part: {},
)


def put(file: Path, text: str = "x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "data/deep/toy/Two Words/test.tsv")
    put(tmp_path / "data/elsewhere/Two Words.lst", "labels")
    put(tmp_path / "data/deep/nottoy/One/test.tsv")
    return tmp_path / "data"


def test_files_are_found_by_the_end_of_their_paths(root: Path) -> None:
    found = DataFolder(root).find(SOURCE, "Two Words")
    assert found.complete
    assert found.files == {
        "test": root / "deep/toy/Two Words/test.tsv",
        "labels": root / "elsewhere/Two Words.lst",
    }


def test_whole_names_must_agree_and_what_is_missing_is_named(root: Path) -> None:
    found = DataFolder(root).find(SOURCE, "One")  # `nottoy` is not `toy`
    assert not found.complete
    assert found.missing == ("toy/One/test.tsv", "One.lst")


def test_the_folder_itself_may_be_part_of_the_ending(root: Path) -> None:
    assert "test" in DataFolder(root / "deep/toy").find(SOURCE, "Two Words").files


def test_two_different_files_of_one_ending_are_told_apart_from_two_copies(root: Path) -> None:
    copy = put(root / "copy/toy/Two Words/test.tsv", "x")
    assert DataFolder(root).find(SOURCE, "Two Words").complete
    copy.write_text("other")
    found = DataFolder(root).find(SOURCE, "Two Words")
    assert not found.complete
    assert set(found.ambiguous["toy/Two Words/test.tsv"]) == {copy, root / "deep/toy/Two Words/test.tsv"}


def test_hidden_folders_are_not_entered_and_links_are_followed_once(root: Path, tmp_path: Path) -> None:
    put(root / ".git/toy/Hidden/test.tsv")
    put(tmp_path / "aside/toy/Linked/test.tsv")
    (root / "link").symlink_to(tmp_path / "aside")
    (root / "deep/loop").symlink_to(root)
    folder = DataFolder(root)
    assert "test" not in folder.find(SOURCE, "Hidden").files
    assert folder.find(SOURCE, "Linked").files["test"] == root / "link/toy/Linked/test.tsv"


def test_a_checksum_is_the_contents_and_follows_a_change(root: Path) -> None:
    file = root / "elsewhere/Two Words.lst"
    assert file_checksum(file) == hashlib.sha256(b"labels").hexdigest()
    file.write_text("labels!")
    assert file_checksum(file) == hashlib.sha256(b"labels!").hexdigest()


def test_a_data_sets_checksum_is_of_content_and_role_not_of_place(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "moved/toy/Two Words/test.tsv", "x")
    put(tmp_path / "moved/Two Words.lst", "labels")
    here, there = (DataFolder(place).find(SOURCE, "Two Words") for place in (root, tmp_path / "moved"))
    assert here.checksum() == there.checksum()
    put(tmp_path / "moved/Two Words.lst", "x")
    put(tmp_path / "moved/toy/Two Words/test.tsv", "labels")
    assert DataFolder(tmp_path / "moved").find(SOURCE, "Two Words").checksum() != here.checksum()
