"""CSV, Markdown, and data sets saved to disk; fields that documents keep."""

from __future__ import annotations

import csv
import datetime
import io
import json
import random
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt.corpus.documents import Document, DocumentWriter, Item, Removed, documents_path, read_documents
from cpt.corpus.readers import Fields, Options, ReadFiles, read
from cpt.errors import CptError, SourceError
from cpt.references import fingerprint, require_read


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


def items(path: Path, content: str | bytes, **options: object) -> list[Item]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read(path, options=Options(**options)))  # type: ignore[arg-type]


def failure(path: Path, content: str | bytes, **options: object) -> str:
    with pytest.raises(SourceError) as caught:
        items(path, content, **options)
    return str(caught.value).replace(str(path), path.name)


# CSV


def test_any_text_survives_csv(tmp_path: Path) -> None:
    chance = random.Random(1)
    texts = [
        "".join(chance.choices('a,;"\n\r\t \u00e9\u65e5', k=chance.randrange(1, 30))) for _ in range(200)
    ]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=chance.choice(["\n", "\r\n"]))
    writer.writerows([["n", "text"], *([str(at), text] for at, text in enumerate(texts))])
    found = items(tmp_path / "a.csv", out.getvalue())
    assert [item.text for item in found] == texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,text\n1,one\n"),
        ("a.csv", "\ufeffid;text\r\n1;one\r\n"),
        ("a.csv", 'id|text\n1|"one"\n'),
        ("a.csv", "text\none\n\n"),
        ("a.tsv", "id\ttext\n1\tone\n"),
    ],
)
def test_the_delimiter_is_the_one_that_gives_the_column(tmp_path: Path, name: str, content: str) -> None:
    assert items(tmp_path / name, content) == [Document(f"{name}:2", "one")]


def test_a_delimiter_can_be_given(tmp_path: Path) -> None:
    content = "text#more\none, two#x\n"
    assert items(tmp_path / "a.csv", content, delimiter="#") == [Document("a.csv:2", "one, two")]
    assert "no column 'text'; its columns are: text#more" in failure(tmp_path / "a.csv", content)


def test_a_field_may_be_longer_than_the_librarys_own_limit(tmp_path: Path) -> None:
    assert len(items(tmp_path / "a.csv", f"text\n{'x' * 300_000}\n")[0].text) == 300_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "a.csv: empty\n  The first row must name"),
        ("id,txt\n1,one\n", "no column 'text'; its columns are: id, txt\n  Set text_field: txt"),
        ("text,text\n1,2\n", "a.csv:1: columns of the same name: text"),
        ("text\nHello, world\n", "a.csv:2: not CSV: the row has 2 fields, but the first row has 1"),
        ('id,text\n1,"one" two\n', "a.csv:2: not CSV: ',' expected after '\"'"),
        ('id,text\n1,"never closed\n2,b\n', "a.csv:3: not CSV: unexpected end of data"),
        (b"text\ncaf\xe9\n", "a.csv:2: not UTF-8: byte 0xe9 at byte 4 of the line"),
    ],
)
def test_what_is_no_csv_is_one_message(tmp_path: Path, content: str | bytes, says: str) -> None:
    assert says in failure(tmp_path / "a.csv", content)


def test_an_unclosed_mark_does_not_take_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.corpus.readers.csv.MOST_CHARACTERS", 1000)
    content = 'text\n"' + "a line\n" * 1000
    assert "field larger than field limit (1000)" in failure(tmp_path / "a.csv", content)


# Markdown


def test_front_matter_is_metadata(tmp_path: Path) -> None:
    text = "---\ntitle: A\ndate: 2024-05-01\n---\n\n# Head\n\nText ---\n"
    fields = Fields(metadata=("date", "author"))
    kept = {"date": "2024-05-01", "author": None}
    assert items(tmp_path / "a.md", text) == [Document("a.md", "# Head\n\nText ---\n")]
    assert items(tmp_path / "a.md", text, fields=fields) == [
        Document("a.md", "# Head\n\nText ---\n", metadata=kept)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "---\nA rule, not a mapping\n---\ntext",
        "---\na: [\n---\n",
        "--- a: 1",
        "---\na: &x 1\nb: *x\n---\n",
        "# a",
    ],
)
def test_other_beginnings_are_text(tmp_path: Path, text: str) -> None:
    assert items(tmp_path / "a.md", text) == [Document("a.md", text)]


# Data sets saved to disk


def test_a_saved_data_set_is_read_in_its_order(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(700)]
    datasets.Dataset.from_dict({"text": texts, "n": list(range(700))}).save_to_disk(
        tmp_path / "d", num_shards=3
    )
    files = ReadFiles()
    found = list(read(tmp_path / "d", files=files))
    assert [item.text for item in found] == texts
    assert found[0].id == "data-00000-of-00003.arrow:1"
    require_read(str(tmp_path / "d"), files.of(tmp_path / "d"), fingerprint(str(tmp_path / "d")))


def test_a_split_must_be_named(tmp_path: Path) -> None:
    splits = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    assert [item.text for item in read(tmp_path / "d", options=Options(split="test"))] == ["test"]
    for split, says in ((None, "several splits: train, test"), ("dev", "no split 'dev': train, test")):
        with pytest.raises(SourceError, match=f"has {says}\n  Set `split`"):
            list(read(tmp_path / "d", options=Options(split=split)))


@pytest.mark.parametrize("name", ["../out.arrow", "/etc/passwd", "no.arrow", 5])
def test_a_saved_data_set_names_only_its_own_files(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (tmp_path / "out.arrow").write_bytes(b"x")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(SourceError, match=r"state\.json"):
        list(read(folder))


def test_damaged_arrow_files_are_one_message(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": [f"text {n}" for n in range(50)]}).save_to_disk(tmp_path / "d")
    (source,) = (tmp_path / "d").glob("*.arrow")
    whole, chance, path = source.read_bytes(), random.Random(1), tmp_path / "a.arrow"
    for _ in range(80):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.randrange(len(content))] if chance.random() < 0.3 else content)
        message = str(path)
        try:
            for item in read(path):
                item.text.encode()
        except CptError as error:
            message = str(error)
        assert str(path) in message


# Fields that are kept

RECORD = {
    "text": "a",
    "day": datetime.date(2024, 5, 1),
    "score": float("nan"),
    "tags": ["x", "\u00e9"],
    "n": 3,
}
KEPT = {"day": "2024-05-01", "score": None, "tags": ["x", "\u00e9"]}
FIELDS = Fields(metadata=("day", "score", "tags"))


def test_fields_of_records_are_kept(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([RECORD]), tmp_path / "a.parquet")
    assert list(read(tmp_path / "a.parquet", options=Options(FIELDS))) == [
        Document("a.parquet:1", "a", metadata=KEPT)
    ]
    line = json.dumps({**RECORD, "day": "2024-05-01"})
    assert items(tmp_path / "a.jsonl", f'{line}\n{{"text": "b"}}\n', fields=FIELDS) == [
        Document("a.jsonl:1", "a", metadata=KEPT),
        Document("a.jsonl:2", "b", metadata=dict.fromkeys(KEPT)),
    ]
    [row] = items(tmp_path / "a.csv", "text,day\na,2024\n", fields=Fields(metadata=("day",)))
    assert isinstance(row, Document)
    assert row.metadata == {"day": "2024"}


def test_a_misspelt_field_is_noticed(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", '{"text": "a", "day": 1}\n'), ("a.csv", "text,day\na,1\n")):
        said = failure(tmp_path / name, content, fields=Fields(metadata=("dy",)))
        assert "'dy'" in said
        assert "text, day" in said
    twice = '{"text": "a", "day": 1, "day": 2}\n'
    assert "field 'day' occurs more than once" in failure(
        tmp_path / "a.jsonl", twice, fields=Fields(metadata=("day",))
    )


def test_documents_are_stored_with_all_that_they_have(tmp_path: Path) -> None:
    documents = [
        Document("a", "one", source="s", metadata={"n": 1, "half": "\ud800", "tags": ["\u00e9"]}),
        Document("b", "two", ended=False, marked=True),
    ]
    with DocumentWriter(documents_path(tmp_path, "domain", "train")) as writer:
        for document in documents:
            writer.write(document)
    assert list(read_documents(tmp_path, "domain", "train")) == documents


def test_row_groups_are_bounded_by_metadata_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.corpus.documents._BYTES_AT_ONCE", 1000)
    monkeypatch.setattr("cpt.corpus.documents._ROWS_OF_A_GROUP", 5)
    documents = [Document(f"{n}", "a", metadata={"n": "x" * 300}) for n in range(8)]
    documents += [Document(f"{n}", "a") for n in range(8, 20)]
    path = documents_path(tmp_path, "domain", "train")
    with DocumentWriter(path) as writer:
        for document in documents:
            writer.write(document)
    facts = pq.read_metadata(path)
    assert [facts.row_group(at).num_rows for at in range(facts.num_row_groups)] == [4, 4, 5, 5, 2]
    assert list(read_documents(tmp_path, "domain", "train")) == documents


@pytest.mark.parametrize("name", ["a.jsonl", "a.md"])
def test_a_field_that_is_nested_too_deeply_is_named(tmp_path: Path, name: str) -> None:
    deep = "[" * 150 + "]" * 150
    content = f'{{"text": "a", "n": {deep}}}\n' if name == "a.jsonl" else f"---\nn: {deep}\n---\na\n"
    said = failure(tmp_path / name, content, fields=Fields(metadata=("n",)))
    assert said == f"{name}{':1' * (name == 'a.jsonl')}: field 'n' is nested too deeply"


def test_documents_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    path = documents_path(tmp_path, "domain", "train")
    path.parent.mkdir()
    pq.write_table(pa.table({"id": ["a"], "text": ["one"]}), path)
    assert list(read_documents(tmp_path, "domain", "train")) == [Document("a", "one")]


def test_a_readme_beside_data_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("About these data.")
    (tmp_path / "b.md").write_text("Data.")
    assert list(read(tmp_path)) == [Removed("README.md", "other_format"), Document("b.md", "Data.")]
    assert [item.text for item in read(tmp_path, "markdown")] == ["About these data.", "Data."]
