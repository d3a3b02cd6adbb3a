"""Every format: what comes out, and what each kind of broken input says."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cpt.corpus.documents import Document, Removed
from cpt.corpus.readers import read
from cpt.errors import DataError

LINES = [
    {"text": "Fever is a symptom.", "n": 1},
    {"text": "Zweite Zeile: \u00e4\u00f6\u00fc"},
    {"text": "third"},
]


def jsonl(records: list = LINES) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def texts(path: Path, **options: str) -> list[str]:
    return [item.text for item in read(path, **options) if isinstance(item, Document)]  # type: ignore[arg-type]


def failure(path: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        list(read(path, **options))  # type: ignore[arg-type]
    assert path.name in str(caught.value)
    return str(caught.value)


# JSON lines


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_jsonl_plain_and_compressed(tmp_path: Path, suffix: str) -> None:
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(compress(jsonl()))
    items = list(read(path))
    assert items == [Document(f"{path.name}:{n}", record["text"]) for n, record in enumerate(LINES, 1)]


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_parts_one_after_the_other_are_all_read(tmp_path: Path, suffix: str, compress) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(compress(jsonl()) + compress(jsonl([{"text": "more"}])))
    assert texts(path)[-1] == "more"


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_truncated_or_false_compressed_file_is_an_error(tmp_path: Path, suffix: str, compress) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    whole = compress(jsonl([{"text": f"text {n * n * 7919 % 10007}"} for n in range(20_000)]))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert "cannot be read" in failure(path)
    path.write_bytes(b"this is not compressed")
    assert "cannot be read" in failure(path)


def test_blank_lines_and_byte_order_mark_are_nothing_and_null_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    spaces = "\u3000 \u2028\r\n".encode()
    path.write_bytes(
        b"\xef\xbb\xbf" + jsonl([{"text": "one"}]).strip() + spaces + b"  \r\n" + spaces + b'{"text": null}'
    )
    assert list(read(path)) == [Document("a.jsonl:1", "one"), Removed("a.jsonl:4", "empty")]


def test_a_text_with_line_separators_of_unicode_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl([{"text": "a\u2028b\u0085c\x0bd"}]))
    assert texts(path) == ["a\u2028b\u0085c\x0bd"]


def test_text_field_chooses_the_field(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl([{"text": "no", "body": "yes"}]))
    assert texts(path, text_field="body") == ["yes"]


def test_the_first_ten_broken_lines_are_shown_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl() + b'{"text": \n' * 30)
    message = failure(path)
    assert message.count("not JSON") == 10
    assert f"{path}:4" in message
    assert f"{path}:13" in message
    assert f"{path}:14" not in message
    assert "further lines were not looked at" in message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"text": "a"', "2: not JSON: .* at column 13"),
        (b'["a"]', "2: a JSON object is needed, not a list"),
        (b"12", "2: a JSON object is needed, not a number"),
        (b'{"text": 5}', "2: field 'text' holds a number, not text"),
        (b'{"text": {"a": 1}}', "2: field 'text' holds an object, not text"),
        (b'{"text": "\\ud800"}', "half of a surrogate pair"),
        (b'{"body": "b", "id": 3}', "no field 'text'; its fields are: body, id\n  Set text_field: body"),
        (b'{"texts": "b", "x": "y"}', "Set text_field: texts"),
        (b"{}", "its fields are: none"),
        (b'{"text": "caf\xe9"}', r"2: not UTF-8: byte 0xe9 at byte 14 of the line\n  .*iconv"),
        (b"[" * 100_000, "2: not JSON that can be read"),
        (b'{"text": ' + b"9" * 5000 + b"}", "2: not JSON that can be read"),
    ],
)
def test_what_a_broken_line_says(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl([{"text": "good"}]) + line + b"\n" + jsonl([{"text": "good again"}]))
    assert re.search(says, failure(path))


# Parquet


def test_parquet_rows_with_nulls_and_dictionary_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    plain = pa.array(["one", None, "three"])
    for column in (plain, plain.cast(pa.large_string()), plain.dictionary_encode()):
        pq.write_table(pa.table({"text": column, "n": [1, 2, 3]}), path)
        assert list(read(path)) == [
            Document("a.parquet:1", "one"),
            Removed("a.parquet:2", "empty"),
            Document("a.parquet:3", "three"),
        ]


def test_what_a_broken_parquet_file_says(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["one"], "n": [1]}), path)
    assert "no column 'text'; its columns are: body, n\n  Set text_field: body" in failure(path)
    assert "column 'n' holds int64, not text\n  Columns of text: body" in failure(path, text_field="n")
    path.write_bytes(path.read_bytes()[:-30])
    assert "not a Parquet file that can be read" in failure(path)
    table = pa.table({"text": [f"text {n}" for n in range(5000)]})
    pq.write_table(table, path, compression="none", write_page_checksum=True)
    path.write_bytes(path.read_bytes().replace(b"text 2345", b"text 2346", 1))
    assert "checksum verification failed" in failure(path)


# Text


def test_a_text_file_is_one_document_compressed_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo \u00e4\n", encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfzipped"))
    assert list(read(tmp_path / "a.txt")) == [Document("a.txt", "one\n\ntwo \u00e4\n")]
    assert texts(tmp_path / "b.txt.gz") == ["zipped"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_that_is_not_utf8_names_line_and_byte(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(mark + b"fine\ncaf\xe9 noir\n")
    assert f"{path}:2: not UTF-8: byte 0xe9 at byte 4 of the line" in failure(path)


def test_a_folder_is_read_file_by_file_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("bee")
    (tmp_path / "sub" / "a.jsonl").write_bytes(jsonl([{"text": "line"}]))
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".hidden.txt").write_text("hidden")
    (tmp_path / "script.py").write_text("x = 1")
    everything = [
        Removed("README.md", "other_format"),
        Document("b.txt", "bee"),
        Removed("script.py", "other_format"),
        Document("sub/a.jsonl:1", "line"),
    ]
    assert list(read(tmp_path)) == everything
    only = [everything[0], Removed("b.txt", "other_format"), *everything[2:]]
    assert list(read(tmp_path, "jsonl")) == only
    assert texts(tmp_path, format="text") == ["about", "bee"]


def test_a_file_of_unknown_format_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "corpus.dat"
    path.write_bytes(jsonl())
    assert "Set format: jsonl" in failure(path)
    assert texts(path, format="jsonl") == [record["text"] for record in LINES]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read" in failure(tmp_path / "none.jsonl")


# OBO

OBO = """format-version: 1.2

[Term]
id: HP:1
name: Tall stature
def: "Height above \\"the\\" norm.\\nMeasured standing." [PMID:1]
comment: Often familial.
synonym: "Tall stature" EXACT []
synonym: "Increased height" EXACT layperson []
synonym: "Gigantism \u00e4" BROAD []
xref: UMLS:1

[Term]
id: HP:2
name: No definition here

[Term]
id: HP:3
name: obsolete Old
def: "Old." []
is_obsolete: true

[Term]
id: HP:4
name: Bare
def: "Only defined." []

[Typedef]
id: part_of
name: part of
def: "Not a term." []
"""


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_obo_terms_become_prose_and_the_rest_is_counted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.obo{suffix}"
    path.write_bytes(gzip.compress(OBO.encode()) if suffix else OBO.encode())
    prose = (
        'Tall stature\nHeight above "the" norm.\nMeasured standing.\nOften familial.\n'
        "Also called: Increased height; Gigantism \u00e4."
    )
    assert list(read(path)) == [
        Document("HP:1", prose),
        Removed("HP:2", "no_definition"),
        Removed("HP:3", "obsolete"),
        Document("HP:4", "Bare\nOnly defined."),
    ]


def test_what_a_broken_ontology_says(tmp_path: Path) -> None:
    path = tmp_path / "a.obo"
    path.write_text(OBO.replace('"Only defined."', '"Only defined.'))
    assert f"{path}:26: not OBO" in failure(path)
    path.write_bytes(OBO.encode("latin-1"))
    assert f"{path}:10: not UTF-8: byte 0xe4" in failure(path)


# Python prose


def test_python_source_is_read_as_prose(tmp_path: Path) -> None:
    path = tmp_path / "topics.py"
    path.write_text("topics = {'assert': 'The assert statement', 'lambda': 'Lambdas'}\n")
    assert list(read(path)) == [Document("assert", "The assert statement"), Document("lambda", "Lambdas")]
