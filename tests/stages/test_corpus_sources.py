"""Sources of the corpus stage: the hub, limits, patterns, addresses, facts, checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest
from corpus_runs import Heard, byte_model, domain, problems, records, run, write
from pydantic import ValidationError

from cpt.corpus import read_documents, read_index
from cpt.corpus.readers import extracted
from cpt.errors import DataError, ReferenceUnavailable, SourceError
from cpt.references import fingerprint
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.config import CorpusConfig, Source
from cpt.stages.corpus.sources import read_sources, source_names
from cpt.stages.corpus.stage import STAGE


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    return byte_model(tmp_path)


def kept(corpus: Path, source: str = "domain") -> list[str]:
    sides = read_index(corpus).sources[source].splits
    return [document.text for side in sides for document in read_documents(corpus, source, side)]


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set `org/name` with two subsets, that `datasets` loads from a local folder."""
    folder = tmp_path / "hub"
    for subset in ("law", "medicine"):
        (folder / subset).mkdir(parents=True)
        for split in ("train", "test"):
            rows = [{"text": f"{subset} {split} {number}", "n": number} for number in range(20)]
            records(folder / subset / f"{split}.jsonl", *rows)
    configs = [{"config_name": name, "data_dir": name} for name in ("law", "medicine")]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    load = datasets.load_dataset

    def local(repo: str, revision: str, **options: Any) -> Any:
        assert (repo, revision) == ("org/name", "c" * 40)
        return load(str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", local)
    return f"hub:datasets/org/name@{'c' * 40}"


def hub_texts(**source: Any) -> list[str]:
    return [item.text for item in read_sources([Source.model_validate(source)], Heard(), {})]


def test_a_data_set_of_the_hub_is_read_as_a_stream(hub: str) -> None:
    assert fingerprint(hub) == "c" * 40
    assert hub_texts(path=hub, subset="law") == [f"law train {number}" for number in range(20)]
    assert hub_texts(path=hub, subset="medicine", split="test", limit=2) == [
        "medicine test 0",
        "medicine test 1",
    ]
    [item, *_] = read_sources(
        [Source.model_validate({"path": hub, "subset": "law", "metadata": ["n"]})], Heard(), {}
    )
    assert (item.id, item.metadata) == ("org/name/train:1", {"n": 0})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({}, r"law(.|\n)*medicine(.|\n)*Set `subset`"),
        ({"subset": "law", "split": "dev"}, r"dev(.|\n)*Set `split`"),
        ({"subset": "law", "text_field": "txt"}, "no column 'txt'; its columns are: text, n"),
    ],
)
def test_what_a_data_set_of_the_hub_lacks_is_named(hub: str, source: dict[str, str], says: str) -> None:
    with pytest.raises((ReferenceUnavailable, SourceError), match=says):
        hub_texts(path=hub, **source)


# Limits, patterns, addresses


def test_a_limit_reads_the_beginning_and_compares_it_all_the_same(base: Artifact, tmp_path: Path) -> None:
    source = domain(tmp_path)
    corpus, _, _ = run(base, tmp_path, domain=[{**source, "limit": 30}])
    assert sorted(kept(corpus)) == sorted(f"domain text {number}" for number in range(30))
    context = {source["path"]: "0" * 64}
    with pytest.raises(DataError, match="changed while it was read"):
        list(read_sources([Source(path=source["path"], limit=3)], Heard(), context))
    good = {source["path"]: fingerprint(source["path"])}
    assert len(list(read_sources([Source(path=source["path"], limit=3)], Heard(), good))) == 3


def test_a_file_that_changes_after_a_limit_is_noticed(base: Artifact, tmp_path: Path) -> None:
    source, away = domain(tmp_path), tmp_path / "away"
    path, planned = Path(source["path"]), {source["path"]: fingerprint(source["path"])}
    content = path.read_bytes()
    path.rename(away)
    path.write_bytes(content.replace(b"domain", b"common"))
    reading = read_sources([Source(path=str(path), limit=2)], Heard(), planned)
    assert next(reading).text == "common text 0"
    away.replace(path)
    with pytest.raises(DataError, match="changed while it was read"):
        list(reading)


def test_patterns_and_addresses_are_sources(base: Artifact, tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    write(tmp_path / "d" / "a.jsonl", *(f"local {number}" for number in range(40)))
    write(tmp_path / "d" / "sub" / "b.jsonl", "other")
    store = fsspec.filesystem("memory")
    store.pipe("/sources/a.txt", b"stored text")
    pattern, address = f"{tmp_path}/d/*.jsonl", "memory://sources/*.txt"
    sources = [{"path": pattern}, {"path": address}]
    context = {"contents": {each: fingerprint(each) for each in (pattern, address)}}
    settings = {"domain": sources, "heldout": 0.1, "heldout_min": {"documents": 1, "bytes": 1}}
    place = Context(
        output=tmp_path / "out", work=tmp_path / "work", seed=1, progress=Heard(), recipe={}, **context
    )
    STAGE.run(CorpusConfig.model_validate(settings), {"model": base}, place)
    texts = kept(tmp_path / "out" / "corpus")
    assert sorted(texts) == sorted(["stored text", *(f"local {number}" for number in range(40))])


# Facts


def test_every_listed_source_is_counted_with_its_facts(base: Artifact, tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", *(f"text {number}" for number in range(60)), "", "same caf\u00e9")
    second = write(tmp_path / "b.jsonl", "same caf\u00e9", *(f"more {number}" for number in range(20)))
    facts = {"name": "books", "licence": "CC-BY-4.0", "language": "pt-BR"}
    corpus, metrics, _ = run(
        base, tmp_path, domain=[{**first, **facts}, second], heldout_min={"documents": 12, "bytes": 1}
    )
    counts = read_index(corpus).sources["domain"]
    books, other = counts.listed["books"], counts.listed[second["path"]]
    assert (books.licence, books.language, books.path) == ("CC-BY-4.0", "pt-BR", first["path"])
    assert (books.documents_in, counts.kept("books").documents) == (62, 61)
    assert (other.documents_in, counts.kept(second["path"]).documents) == (21, 20)
    assert counts.splits["heldout"].documents == 12
    for what in ("documents", "bytes"):
        assert getattr(books, f"{what}_in") + getattr(other, f"{what}_in") == getattr(counts, f"{what}_in")
        for split in counts.splits.values():
            assert sum(getattr(each, what) for each in split.listed.values()) == getattr(split, what)
    assert metrics["sources"]["domain"]["listed"]["books"]["licence"] == "CC-BY-4.0"


def test_counts_of_listed_sources_follow_a_selection(base: Artifact, tmp_path: Path) -> None:
    sources = [
        write(tmp_path / f"{name}.jsonl", *(f"{name} document number {number}" for number in range(40)))
        for name in ("a", "b")
    ]
    select = {"tokens": 600, "by": "random", "min_tokens": 8, "max_repetition": 1}
    corpus, _, _ = run(base, tmp_path, domain=sources, select=select)
    counts = read_index(corpus).sources["domain"]
    train = counts.splits["train"]
    assert 0 < train.documents < 60
    assert sum(each.documents for each in train.listed.values()) == train.documents
    assert sum(each.bytes for each in train.listed.values()) == train.bytes


def test_sources_have_different_names() -> None:
    sources = [Source(path="a"), Source(path="a", format="text"), Source(path="b", name="a")]
    assert source_names(sources) == ["a", "a (2)", "a (3)"]
    assert source_names([Source(path=path) for path in ("a", "a (2)", "a")]) == ["a", "a (2)", "a (3)"]


@pytest.mark.parametrize("tag", ["en", "pt-BR", "zh-Hant-TW", "sr-Latn", "de-1996", "es-419"])
def test_languages_are_tags(tag: str) -> None:
    assert Source(path="a", language=tag).language == tag
    for wrong in ("english", "e", "en_US", "", "en-"):
        with pytest.raises(ValidationError):
            Source(path="a", language=wrong)


def test_packed_text_does_not_depend_on_facts(base: Artifact, tmp_path: Path) -> None:
    rows = [{"text": f"domain text {number}", "n": number} for number in range(80)]
    path = records(tmp_path / "a.jsonl", *rows)
    plain, _, _ = run(base, tmp_path, "plain", domain=[{"path": path}])
    facts = {"name": "x", "licence": "MIT", "language": "en", "metadata": ["n"]}
    with_facts, _, _ = run(base, tmp_path, "facts", domain=[{"path": path, **facts}])
    shards = [sorted((corpus / "tokens").rglob("*.*")) for corpus in (plain, with_facts)]
    assert shards[0]
    assert [file.read_bytes() for file in shards[0]] == [file.read_bytes() for file in shards[1]]
    [document, *_] = read_documents(with_facts, "domain", "train")
    assert document.metadata == {"n": int(document.text.split()[-1])}


# Checks


@pytest.mark.parametrize(
    ("source", "key", "says"),
    [
        ({"path": "a.jsonl", "subset": "x"}, "subset", "only a data set of the hub"),
        ({"path": "a.jsonl", "split": "x"}, "split", "no splits"),
        ({"path": "a.txt", "metadata": ["x"]}, "metadata", "text has no fields"),
        ({"path": "a.jsonl", "delimiter": ";"}, "delimiter", "jsonl has no delimiter"),
        ({"path": "hub:datasets/o/n", "format": "csv"}, "format", "that `datasets` finds"),
        ({"path": "https://host/a.bin"}, "format", "cannot be told from its name"),
    ],
)
def test_keys_that_change_nothing_are_refused(source: dict[str, Any], key: str, says: str) -> None:
    assert says in problems(domain=[source])[f"domain.0.{key}"]


def test_a_missing_library_is_found_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extracted.LIBRARIES, "pdf", "no_such_module")
    said = "format pdf needs no_such_module: pip install 'cpt-workbench[documents]'"
    for path in ("a.pdf", "data/*.pdf", "s3://bucket/a.pdf"):
        assert problems(domain=[{"path": path}])["domain.0.format"] == said


def test_splits_of_a_saved_data_set_are_checked(tmp_path: Path) -> None:
    splits = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    source = {"path": str(tmp_path / "d")}
    assert "several splits: train, test" in problems(domain=[source])["domain.0.split"]
    assert problems(domain=[{**source, "split": "train"}]) == {}
