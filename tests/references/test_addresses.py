"""Patterns of local files and addresses in stores: what is found, fetched, fingerprinted and refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cpt import references
from cpt.errors import DataError, MissingInput, RecipeError, ReferenceUnavailable
from cpt.references.addresses import _PACKAGES
from cpt.references.syntax import Address, HubDataSet, LocalPath, LocalPattern, parse

SHA256 = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def store() -> Any:
    found = fsspec.filesystem("memory")
    MemoryFileSystem.store.clear()
    found.pipe(
        {"/b/one.txt": b"one", "/b/sub/two.txt": b"two", "/b/.hidden.txt": b"no", "/b/c.md": b"content"}
    )
    yield found
    MemoryFileSystem.store.clear()


# Patterns


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.md", "b.txt", "sub/c.md", "sub/deep/d.md", ".git/e.md"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.md", ["a.md"]),
        ("**/*.md", ["a.md", "sub/c.md", "sub/deep/d.md"]),
        ("sub/*", ["sub/c.md"]),
        ("[ab].*", ["a.md", "b.txt"]),
        ("?.txt", ["b.txt"]),
    ],
)
def test_a_pattern_is_its_files(tree: Path, pattern: str, names: list[str]) -> None:
    found = references.resolve_files(f"{tree}/{pattern}")
    assert found.chosen is not None
    assert [path.relative_to(tree).as_posix() for path in found.chosen] == names


def test_the_fingerprint_of_a_pattern_is_of_names_and_contents(tree: Path) -> None:
    before = references.fingerprint(f"{tree}/*.md")
    (tree / "b.txt").write_text("other")
    assert references.fingerprint(f"{tree}/*.md") == before
    (tree / "a.md").write_text("other")
    changed = references.fingerprint(f"{tree}/*.md")
    (tree / "a.md").rename(tree / "z.md")
    assert len({before, changed, references.fingerprint(f"{tree}/*.md")}) == 3


def test_a_pattern_is_found_beside_the_recipe(tree: Path, tmp_path: Path) -> None:
    assert references.locate("*.md", tree) == str(tree / "*.md")
    assert references.locate("tree/*.md", tmp_path / "elsewhere") == str(tree / "*.md")
    assert references.check("*.md", tree) is None
    problem = references.check("*.pdf", tree)
    assert problem is not None
    assert problem.message == f"no file matches {tree}/*.pdf"
    with pytest.raises(MissingInput):
        references.fingerprint(f"{tree}/*.pdf")


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree: Path) -> None:
    (tree / "a[1].md").write_text("x")
    assert parse(f"{tree}/a[1].md").location == LocalPath(tree / "a[1].md")
    assert isinstance(parse(f"{tree}/a[2].md").location, LocalPattern)


def test_more_than_one_file_is_refused_where_one_is_wanted(tree: Path) -> None:
    for reference in (f"{tree}/*.md", "hub:datasets/org/name"):
        with pytest.raises(ReferenceUnavailable, match="more than one file"):
            references.resolve_file(reference)
        with pytest.raises(RecipeError, match="pins a folder or several files"):
            parse(f"{reference}#sha256={SHA256}")


# Addresses


def test_the_grammar_of_addresses() -> None:
    assert parse("S3://bucket/a/*.txt").location == Address("s3", "s3://bucket/a/*.txt")
    assert parse("https://host/a.txt?x=[1]").location == Address("https", "https://host/a.txt?x=[1]")
    assert parse("file:///data/a.txt").location == LocalPath(Path("/data/a.txt"))
    assert parse("hub:datasets/org/name@main").location == HubDataSet("org/name", "main")
    for wrong, says in (
        ("s3://", "is not an address"),
        ("zip://a::s3://b/c", "is not an address"),
        ("hf://datasets/a/b/c", "is the hub without a commit"),
        ("https://me:secret@host/a.txt", "holds a password"),
    ):
        with pytest.raises(RecipeError, match=says) as caught:
            parse(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "files"),
    [
        ("memory://b/one.txt", {"one.txt": "one"}),
        ("memory://b/sub", {"two.txt": "two"}),
        ("memory://b/**/*.txt", {"one.txt": "one", "sub/two.txt": "two"}),
        ("memory://b", {"c.md": "content", "one.txt": "one", "sub/two.txt": "two"}),
    ],
)
def test_an_address_is_fetched_once(
    store: Any, heard: Any, address: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = references.resolve_file(address, heard)
    found = [path] if path.is_file() else [each for each in sorted(path.rglob("*")) if each.is_file()]
    root = path.parent if path.is_file() else path
    assert {each.relative_to(root).as_posix(): each.read_text() for each in found} == files
    monkeypatch.setattr(MemoryFileSystem, "get_file", None)
    assert references.resolve_file(address, heard) == path
    assert len(heard.messages) == 1
    assert heard.messages[0].startswith(f"fetching {address}: {len(files)} files, ")


def test_a_changed_file_has_another_fingerprint_and_is_fetched_again(store: Any) -> None:
    before = references.fingerprint("memory://b")
    old = references.resolve_file("memory://b")
    assert references.fingerprint("memory://b") == before
    store.pipe("/b/one.txt", b"uno")
    assert references.fingerprint("memory://b") != before
    new = references.resolve_file("memory://b")
    assert ((old / "one.txt").read_text(), (new / "one.txt").read_text()) == ("one", "uno")


def test_what_is_read_is_compared_with_what_was_planned(store: Any) -> None:
    address = "memory://b/one.txt"
    planned = references.fingerprint(address)
    path = references.resolve_file(address)
    read = {path: references.cache.file_sha256(path)}
    references.require_read(address, read, planned)
    for files, expected in (({path: "0" * 64}, planned), (read, "0" * 64)):
        with pytest.raises(DataError, match=f"{address} changed while it was read"):
            references.require_read(address, files, expected)


def test_a_pin_needs_no_store_once_it_is_fetched(store: Any) -> None:
    pinned = f"memory://b/c.md#sha256={SHA256}"
    path = references.resolve_file(pinned)
    MemoryFileSystem.store.clear()
    assert references.resolve_file(pinned) == path
    assert references.fingerprint(pinned) == SHA256
    with pytest.raises(ReferenceUnavailable, match=r"no such file|cannot read"):
        references.resolve_file("memory://b/c.md")


def test_a_wrong_pin_is_refused(store: Any) -> None:
    with pytest.raises(ReferenceUnavailable, match="expected SHA-256 000"):
        references.resolve_file(f"memory://b/c.md#sha256={'0' * 64}")


def test_a_store_without_versions_asks_for_a_pin(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = MemoryFileSystem.info
    monkeypatch.setattr(
        MemoryFileSystem, "info", lambda self, path, **_: {**info(self, path), "created": None}
    )
    with pytest.raises(ReferenceUnavailable, match=r"neither checksum nor time(.|\n)*#sha256="):
        references.fingerprint("memory://b/c.md")


def test_names_that_lead_out_of_the_cache_are_refused(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = {"/b/../../evil.txt": {"type": "file", "size": 1, "created": 1}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, path, **_: evil)
    with pytest.raises(ReferenceUnavailable, match="unsafe name"):
        references.resolve_file("memory://b")


def test_a_missing_file_is_one_message(store: Any) -> None:
    for address in ("memory://nowhere/a.txt", "memory://b/*.pdf"):
        with pytest.raises(ReferenceUnavailable, match=address.replace("*", r"\*")):
            references.fingerprint(address)


def test_a_missing_package_is_found_before_anything_runs(tmp_path: Path) -> None:
    problem = references.check("s3://bucket/a.txt", tmp_path)
    if problem is not None:  # s3fs is not installed
        assert problem.hint == "pip install s3fs"
    problem = references.check("nosuch://bucket/a.txt", tmp_path)
    assert problem is not None
    assert "fsspec knows no protocol nosuch://" in problem.message
    assert _PACKAGES["gs"] == "gcsfs"
