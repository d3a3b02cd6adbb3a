"""JSON files from the disk: whole and of the right shape, or one message that names the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cpt.errors import DamagedFile
from cpt.json_file import parse_rows, read_json, read_plain, read_rows


class Shape(BaseModel):
    name: str
    count: int = 0
    inner: dict[str, float] = {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "facts.json"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "this is not JSON"),
        (b'{"name": "x"', "this is not JSON"),
        (b"[" * 100_000, "this is not JSON: recursion limit"),
        (b'{"name": ' + b'{"a":' * 100_000, "this is not JSON: recursion limit"),
        (b"\x00\xff\xfe", "this is not JSON"),
        (b"[]", "not of the form that cpt writes: input should be an object"),
        (b"null", "not of the form"),
        (b"{}", "name: field required"),
        (b'{"name": 3}', "name: input should be a valid string"),
        (b'{"name": "x", "count": "3"}', "count: input should be a valid integer"),
        (b'{"name": "x", "inner": {"a": []}}', "inner.a: input should be a valid number"),
    ],
)
def test_what_is_damaged_is_named_with_the_reason(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    for read in (read_json, read_plain):
        with pytest.raises(DamagedFile) as caught:
            read(file, Shape)
        assert caught.value.message.startswith(f"{file}: ")
        assert reason in caught.value.reason
        assert caught.value.exit_code == 2


def test_what_is_missing_or_no_file_is_named(file: Path) -> None:
    with pytest.raises(DamagedFile, match=r"facts\.json: the file is missing"):
        read_json(file, Shape)
    os.mkfifo(file)  # nobody writes to it: reading would wait for ever
    with pytest.raises(DamagedFile, match="this is no file"):
        read_json(file, Shape)
    file.unlink()
    file.mkdir()
    with pytest.raises(DamagedFile, match="this is no file"):
        read_json(file, Shape)


def test_plain_data_has_what_the_shape_does_not_name(file: Path) -> None:
    file.write_text('{"name": "x", "more": [1, NaN]}')
    assert read_json(file, Shape).name == "x"
    assert read_plain(file, Shape)["more"][0] == 1


def test_rows_are_plain_data_and_a_damaged_one_is_named_with_its_line(file: Path) -> None:
    file.write_text('{"name": "a", "x": 1}\n\n{"name": "b"}\n')
    assert read_rows(file, Shape) == [{"name": "a", "x": 1}, {"name": "b"}]
    for bad in ("{", "7", '{"count": 1}', '{"name": "c"}, {"name": "d"}'):
        file.write_text(f'{{"name": "a"}}\n\n{bad}\n')
        with pytest.raises(DamagedFile, match=r"facts\.json:3: "):
            read_rows(file, Shape)


def test_lines_count_on_where_a_file_is_read_in_parts(file: Path) -> None:
    with pytest.raises(DamagedFile, match=r"facts\.json:12: "):
        parse_rows(b'{"name": "a"}\n[]\n', dict[str, Any], file, first_line=11)
