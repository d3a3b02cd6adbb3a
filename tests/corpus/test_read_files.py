"""The hash that readers give of what they read is the fingerprint of the very same content."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cpt import references
from cpt.corpus.documents import Document
from cpt.corpus.readers import ReadFiles, read
from cpt.errors import DataError

OBO = '[Term]\nid: HP:1\nname: {0}\ndef: "{0}" []\n'


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def parquet(texts: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=2)
    return bytes(sink.getvalue())


def arrow(texts: list[str]) -> bytes:
    sink, table = pa.BufferOutputStream(), pa.table({"text": texts})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


WRITERS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": jsonl,
    "a.jsonl.gz": lambda texts: gzip.compress(jsonl(texts)),
    "a.jsonl.zst": lambda texts: zstandard.compress(jsonl(texts)),
    "a.parquet": parquet,
    "a.csv": lambda texts: "\n".join(["text", *texts]).encode(),
    "a.md": lambda texts: "\n".join(texts).encode(),
    "a.arrow": arrow,
    "a.txt": lambda texts: "\n".join(texts).encode(),
    "a.txt.gz": lambda texts: gzip.compress("\n".join(texts).encode()),
    "a.obo": lambda texts: OBO.format(texts[0]).encode(),
    "a.py": lambda texts: repr({"name": texts[0]}).join(["x = ", "\n"]).encode(),
}
OLD, NEW = ["one", "two", "three"], ["uno", "dos", "tres"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


def read_all(path: Path) -> tuple[list[str], ReadFiles]:
    files = ReadFiles()
    return [item.text for item in read(path, files=files) if isinstance(item, Document)], files


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_read_has_its_fingerprint(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WRITERS[name](OLD))
    _, files = read_all(path)
    references.require_read(str(path), files.of(path), references.fingerprint(str(path)))


@pytest.mark.parametrize("name", WRITERS)
def test_other_content_is_noticed_though_the_old_one_is_put_back(tmp_path: Path, name: str) -> None:
    path, away = tmp_path / name, tmp_path / "away"
    path.write_bytes(WRITERS[name](OLD))
    expected = references.fingerprint(str(path))
    path.rename(away)
    path.write_bytes(WRITERS[name](NEW))
    texts, files = read_all(path)
    away.replace(path)
    assert NEW[0] in texts[0]
    with pytest.raises(DataError, match=f"{name} changed while it was read\n  Run again"):
        references.require_read(str(path), files.of(path), expected)


def test_a_file_of_a_folder_and_its_name_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl", "note.md"):
        (folder / name).write_bytes(jsonl(OLD))
    expected = references.fingerprint(str(folder))
    _, files = read_all(folder)
    references.require_read(str(folder), files.of(folder), expected)
    (folder / "b.jsonl").write_bytes(jsonl(NEW))
    _, changed = read_all(folder)
    (folder / "b.jsonl").write_bytes(jsonl(OLD))
    for wrong in (changed.of(folder), {**files.of(folder), folder / "c.jsonl": "0"}):
        with pytest.raises(DataError, match="data changed while it was read"):
            references.require_read(str(folder), wrong, expected)


def test_a_parquet_file_that_is_overwritten_in_place_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(OLD))
    stat = path.stat()
    reading = read(path, files=ReadFiles())
    next(reading)
    content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match="changed while it was read"):
        list(reading)


def test_readers_without_a_hash_watch_the_file(tmp_path: Path) -> None:
    path, away = tmp_path / "items.jsonl", tmp_path / "away"
    path.write_bytes(jsonl(OLD))
    expected = {str(path): references.fingerprint(str(path))}
    with references.unchanged([str(path), "wheel:a==1/b"], expected):
        path.read_bytes()
    with pytest.raises(DataError, match="changed while it was read"):
        _swap_while_watched(path, away, expected)
    path.write_bytes(jsonl(NEW))
    with pytest.raises(DataError, match="changed"), references.unchanged([str(path)], expected):
        raise AssertionError("read although it changed before")


def _swap_while_watched(path: Path, away: Path, expected: dict[str, str]) -> None:
    with references.unchanged([str(path)], expected):
        path.rename(away)
        path.write_bytes(jsonl(NEW))
        away.replace(path)
