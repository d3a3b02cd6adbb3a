"""Damaged and hostile files in every format: one message that names the file, or documents; nothing else."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cpt.corpus.documents import Document
from cpt.corpus.readers import Fields, Options, read
from cpt.corpus.readers.conversations import Conversations, TemplateRenderer
from cpt.errors import CptError, DataError, SourceError

OBO = b'[Term]\nid: HP:1\nname: Tall\ndef: "Height." []\nsynonym: "High" EXACT []\n'
JSONL = b"".join(json.dumps({"text": f"document {number}"}).encode() + b"\n" for number in range(20))


def parquet(**columns: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


WHOLE = {
    "a.jsonl": JSONL,
    "a.ndjson": JSONL,
    "a.jsonl.gz": gzip.compress(JSONL),
    "a.jsonl.zst": zstandard.compress(JSONL),
    "a.parquet": parquet(text=["one", "two"] * 10),
    "a.txt": b"one\ntwo\n",
    "a.txt.gz": gzip.compress(b"one\ntwo\n"),
    "a.obo": OBO,
    "a.obo.gz": gzip.compress(OBO),
    "a.py": b"x = {'a': 'text'}\n",
    "a.csv": b'id,text\n1,"one, two"\n2,three\n',
    "a.tsv": b"id\ttext\n1\tone\n",
    "a.md": b"---\ntitle: a\n---\n\n# Head\n\nText.\n",
}
"""One good file of every format."""
CONTENTS = {
    "empty": b"",
    "zeros": bytes(5000),
    "binary": random.Random(1).randbytes(5000),
    "Latin-1": "caf\u00e9 cr\u00e8me\n".encode("latin-1"),
    "UTF-16": "text of two bytes\n".encode("utf-16"),
    "nested": b"[" * 100_000,
    "parentheses": b"x = " + b"(" * 100_000,
    "number": b'{"text": "a", "n": ' + b"9" * 100_000 + b"}\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


def outcome(path: Path) -> str:
    """Read a file to its end: its message, or nothing."""
    message = ""
    try:
        for item in read(path):
            if isinstance(item, Document):
                item.text.encode()
    except CptError as error:
        message = str(error)
    assert not message or str(path) in message
    assert not set(message) & {"\x1b", "\0"}
    assert len(message) < 5000
    return message


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("content", CONTENTS)
def test_other_content_under_the_name_of_every_format(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[content])
    outcome(path)


@pytest.mark.parametrize("name", WHOLE)
def test_bytes_that_are_lost_or_changed(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    path = tmp_path / name
    for _ in range(60):
        content = bytearray(WHOLE[name])
        if chance.random() < 0.5:
            del content[chance.randrange(len(content)) :]
        for _ in range(chance.randrange(4)):
            if content:
                content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        outcome(path)


@pytest.mark.parametrize("content", [CONTENTS["binary"], b"\x1f\x8b\x08 no more", b"\xff\xfe"])
def test_a_binary_ontology_is_one_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.obo"
    path.write_bytes(content)
    assert re.search(r"a\.obo:1: not UTF-8: byte 0x", outcome(path))


def test_an_ontology_at_which_the_parser_panics_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panic = type("PanicException", (BaseException,), {})

    def iterate(*_: object, **__: object) -> None:
        raise panic("entered unreachable code")

    monkeypatch.setattr("fastobo.iter", iterate)
    path = tmp_path / "a.obo"
    path.write_bytes(OBO)
    assert outcome(path) == f"{path}: not OBO: the parser cannot read it"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"te\\u001b[31mxt": "a"}', r"its fields are: 'te\\x1b\[31mxt'\n  Set text_field: 'te\\x1b"),
        (b'{"a\\nb": 1}', r"its fields are: 'a\\nb'"),
        (b'{"' + b"k" * 100_000 + b'": 1}', r"its fields are: 'k{80}\.\.\.'$"),
        (b'{"text": "a", "text": "b"}', "field 'text' occurs more than once"),
        (b'{"text": {"text": "a", "text": "b"}}', "holds an object, not text"),
        (b'{"text": NaN}', "holds a number"),
        (b'{"text": ' + b"[" * 100_000 + b"}", "nested too deeply"),
        (b'{"text": "\\udc00 x"}', "half of a surrogate pair"),
    ],
)
def test_fields_that_are_hostile(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b"\n")
    message = outcome(path)
    assert f"{path}:1: " in message
    assert re.search(says, message)


def test_a_field_that_occurs_twice_elsewhere_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "say \\"text\\"", "more": {"text": 1}, "n": 1, "n": 2}\n')
    assert outcome(path) == ""


def test_so_many_fields_that_comparing_them_all_would_hang(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({f"tex{number:06}": number for number in range(200_000)}))
    assert "no field 'text'" in outcome(path)


def test_columns_that_are_hostile(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(**{"te\x1b[31mxt": ["a"], "n": [1]}))
    assert r"its columns are: 'te\x1b[31mxt', n" in outcome(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.jsonl.gz"])
def test_what_is_too_long_is_refused_in_time(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.corpus.readers.files.MOST_BYTES", 1000)
    path = tmp_path / name
    content = b'{"text": "short"}\n{"text": "' + b"x" * 1000 + b'"}\n'
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=r"longer than 1,000 bytes\n  Divide it"):
        list(read(path))


class NoTemplate(TemplateRenderer):
    """A renderer of conversations that end before they are rendered."""

    special = ("</s>",)


DEEP: list[Any] = []
for _ in range(150):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"content": "a", "name": "\ud800"}, "half of a surrogate pair"),
        ({"content": None, "tool_calls": [{"name": "\ud800"}]}, "half of a surrogate pair"),
        ({"content": None, "\ud800": 1}, "half of a surrogate pair"),
        ({"content": [{"text": "\ud800"}]}, "half of a surrogate pair"),
        ({"content": "a", "tool_calls": DEEP}, "field 'messages' is nested too deeply"),
    ],
)
def test_messages_that_are_hostile(tmp_path: Path, message: dict[str, Any], says: str) -> None:
    path = tmp_path / "a.jsonl"
    silent = {"role": "user", "content": None}
    path.write_text(json.dumps({"messages": [silent, {"role": "user", **message}]}) + "\n")
    chat = Conversations(("messages",), NoTemplate(tmp_path, None, None))
    with pytest.raises(SourceError, match=says):
        list(read(path, options=Options(Fields(chat=chat))))


def test_a_name_that_is_not_utf8_is_one_message(tmp_path: Path) -> None:
    picture, path = (tmp_path / os.fsdecode(name) for name in (b"\xe9.png", b"\xe9.txt"))
    try:
        picture.write_text("a")
    except OSError:
        pytest.skip("the file system refuses such names")
    [removed] = read(tmp_path)
    assert removed.id == "\\udce9.png"
    path.write_text("a")
    for place in (path, tmp_path):
        with pytest.raises(SourceError, match=r"udce9\.txt: the name of the file is not UTF-8") as caught:
            list(read(place))
        str(caught.value).encode()
