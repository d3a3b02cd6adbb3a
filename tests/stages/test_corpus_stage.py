"""The corpus stage: the whole way from files to packed shards, every field, every mistake."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_runs import byte_model, run, write
from pydantic import ValidationError

from cpt.corpus import Document, open_source, read_documents, read_index
from cpt.errors import DataError, UsageError
from cpt.references import PINNED_SHA256
from cpt.stages.base import Artifact
from cpt.stages.corpus.stage import STAGE, CorpusConfig


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


@pytest.fixture
def domain(tmp_path: Path) -> dict[str, str]:
    """120 domain documents in a JSONL file, as a source."""
    path = tmp_path / "domain.jsonl"
    path.write_text("".join(json.dumps({"text": f"finding {n} " * (n % 9 + 1)}) + "\n" for n in range(120)))
    return {"path": str(path)}


def problems(base: Artifact | None, **config: Any) -> dict[str, str]:
    found = STAGE.check(
        CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], **config}),
        {"model": base} if base else {},
    )
    return {str(problem.key): str(problem) for problem in found}


def test_files_become_documents_shards_and_an_index(
    base: Artifact, domain: dict[str, str], tmp_path: Path
) -> None:
    general = write(tmp_path / "general.jsonl", "general one", "general two", "general two")
    replay = write(tmp_path / "replay.jsonl", "general one", "old text", "  ", "more old text")
    corpus, metrics, messages = run(base, tmp_path, domain=[domain], replay=[replay], general=[general])
    index = read_index(corpus)
    assert list(index.sources) == ["domain", "replay", "general"]
    assert (index.sequence_length, index.start_token, index.end_token) == (64, "<s>", "</s>")
    for counts in index.sources.values():
        kept = sum(split.documents for split in counts.splits.values())
        assert counts.documents_in == kept + sum(counts.removed_documents.values())
    assert set(index.sources["domain"].splits) == {"train", "heldout"}
    assert index.sources["replay"].removed_documents == {
        "duplicate": 0,
        "empty": 1,
        "duplicate_of_heldout": 1,
    }
    assert set(index.sources["replay"].splits) == {"train"}
    assert index.sources["general"].removed_documents["duplicate"] == 1
    assert set(index.sources["general"].splits) == {"heldout"}
    assert sorted(path.name for path in (corpus / "documents").iterdir()) == [
        "domain.heldout.parquet",
        "domain.train.parquet",
        "general.heldout.parquet",
        "replay.train.parquet",
    ]
    held = {document.text for document in read_documents(corpus, "domain", "heldout")}
    trained = {document.text for document in read_documents(corpus, "domain", "train")}
    assert held
    assert not held & trained
    assert open_source(corpus, "replay").sequence(0).source == "replay"
    assert metrics["sources"] == json.loads((corpus / "corpus.json").read_text())["sources"]
    assert metrics["bytes_per_token"] == {"domain": 1.0, "replay": 1.0, "general": 1.0}
    assert 0.5 < metrics["packed"]["domain"] <= 1.0
    assert "general: 3 documents in, 2 heldout, 1 removed (duplicate 1)" in messages
    json.dumps(metrics)


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another_split(
    base: Artifact, domain: dict[str, str], tmp_path: Path
) -> None:
    first, _, _ = run(base, tmp_path, "first", domain=[domain])
    again, _, _ = run(base, tmp_path, "again", domain=[domain])
    other, _, _ = run(base, tmp_path, "other", seed=18, domain=[domain])
    for path in (path for path in first.rglob("*") if path.is_file()):
        assert path.read_bytes() == (again / path.relative_to(first)).read_bytes()
    held = [[d.text for d in read_documents(corpus, "domain", "heldout")] for corpus in (first, other)]
    assert held[0] != held[1]


# Every field changes something


def test_heldout_and_sequence_length(base: Artifact, domain: dict[str, str], tmp_path: Path) -> None:
    small, _, _ = run(base, tmp_path, "small", domain=[domain])
    large, _, _ = run(base, tmp_path, "large", domain=[domain], heldout=0.4, sequence_length=32)
    counts = [read_index(corpus).sources["domain"].splits for corpus in (small, large)]
    assert counts[0]["heldout"].documents < counts[1]["heldout"].documents
    assert open_source(small, "domain").sequence_lengths.max() > 32
    assert open_source(large, "domain").sequence_lengths.max() <= 32


@pytest.mark.parametrize(
    ("marks", "first", "last"),
    [
        ({}, 0, 1),
        ({"start_token": None}, None, 1),
        ({"end_token": None}, 0, None),
        ({"start_token": "</s>", "end_token": "<s>"}, 1, 0),
    ],
)
def test_start_and_end_tokens(
    base: Artifact, tmp_path: Path, marks: dict[str, Any], first: int | None, last: int | None
) -> None:
    texts = write(tmp_path / "texts.jsonl", *(f"document {number}" for number in range(60)))
    corpus, _, _ = run(base, tmp_path, domain=[texts], **marks)
    row = open_source(corpus, "domain").sequence(0)
    piece = row.tokens[: row.piece_lengths[0]].tolist()
    assert (piece[0] if piece[0] < 2 else None) == first
    assert (piece[-1] if piece[-1] < 2 else None) == last


def test_excerpts_get_no_end_token_and_whole_texts_do(base: Artifact, tmp_path: Path) -> None:
    """Their documents may stand in one row: what a source says holds for its own documents alone."""
    excerpts = write(tmp_path / "excerpts.jsonl", *(f"excerpt {number}" for number in range(60)))
    whole = write(tmp_path / "whole.jsonl", *(f"text {number}" for number in range(60)))
    corpus, _, _ = run(base, tmp_path, domain=[{**excerpts, "complete": False}, whole])
    ended = {
        (document.text.split()[0], document.ended) for document in read_documents(corpus, "domain", "train")
    }
    assert ended == {("excerpt", False), ("text", True)}
    row = open_source(corpus, "domain").sequence(0)
    ends = [piece[-1] == 1 for piece in np.split(row.tokens, np.cumsum(row.piece_lengths)[:-1])]
    assert any(ends)
    assert not all(ends)


def test_long_documents_are_cut_into_chunks(base: Artifact, tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number} of a book." for number in range(400))
    corpus, _, _ = run(base, tmp_path, domain=[{**write(tmp_path / "book.jsonl", text), "chunk": 500}])
    found = [each for split in ("train", "heldout") for each in read_documents(corpus, "domain", split)]
    assert len(found) > 20
    assert max(len(document.text) for document in found) <= 500
    paragraphs = [line for document in found for line in document.text.split("\n") if line]
    assert sorted(paragraphs) == sorted(text.split("\n\n"))
    assert [document.id.rpartition("#")[2] for document in found if document.ended] == [str(len(found))]


def test_chunks_are_cut_last(base: Artifact, tmp_path: Path) -> None:
    """Of the entries within the limit, after the letters have changed; excerpts have no end at all."""
    texts = write(tmp_path / "books.jsonl", *(f"Привет, мир номер {n}. " * 30 for n in range(5)))
    source = {**texts, "chunk": 300, "limit": 2, "transliterate": "rus", "complete": False, "part": "books"}
    corpus, _, _ = run(base, tmp_path, domain=[source], heldout=0.3)
    found = [each for split in ("train", "heldout") for each in read_documents(corpus, "domain", split)]
    assert {document.id.partition("#")[0] for document in found} == {"books.jsonl:1", "books.jsonl:2"}
    assert max(len(document.text) for document in found) <= 300
    assert all(document.text.isascii() for document in found)
    assert not any(document.ended for document in found)
    assert {document.part for document in found} == {"books"}


def test_conversations_are_not_cut(domain: dict[str, str]) -> None:
    [problem] = STAGE.check(
        CorpusConfig(domain=[domain], replay=[{**domain, "chat": "messages", "chunk": 500}]), {}
    )
    assert (problem.key, problem.message) == ("replay.0.chunk", "conversations cannot be cut into chunks")


@pytest.mark.parametrize("where", ["general", "select"])
def test_excerpts_that_are_only_scored_are_refused_as_such(
    base: Artifact, domain: dict[str, str], where: str
) -> None:
    excerpts = {**domain, "complete": False}
    select = {"tokens": 90, "by": {"kind": "n-gram", "reference": [excerpts]}}
    config = CorpusConfig(
        domain=[domain], **({"general": [excerpts]} if where == "general" else {"select": select})
    )
    [problem] = STAGE.check(config, {})
    assert problem.key == ("general.0.complete" if where == "general" else "select.by.reference.0.complete")
    assert "changes nothing" in problem.message


def test_format_and_text_field(base: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_text("".join(json.dumps({"body": f"document {number}"}) + "\n" for number in range(60)))
    source = {"path": str(path), "format": "jsonl", "text_field": "body"}
    corpus, _, _ = run(base, tmp_path, domain=[source])
    assert read_index(corpus).sources["domain"].documents_in == 60


def test_a_transliterated_source_is_in_latin_letters_before_duplicates_are_sought(
    base: Artifact, domain: dict[str, str], tmp_path: Path
) -> None:
    russian = write(
        tmp_path / "russian.jsonl", *(f"Пульс {number} ниже" for number in range(60)), "Puls 1 nizhe"
    )
    general = write(tmp_path / "general.jsonl", "Київ, ти", "日本")
    sources = {
        "domain": [{**russian, "transliterate": True}, domain],
        "general": [{**general, "transliterate": "ukr"}],
    }
    corpus, metrics, messages = run(base, tmp_path, **sources)
    index = read_index(corpus)
    assert index.sources["domain"].documents_in == 181
    assert index.sources["domain"].removed_documents["duplicate"] == 1
    for split in ("train", "heldout"):
        texts = [document.text for document in read_documents(corpus, "domain", split)]
        assert any(text.startswith("Puls ") and text.endswith(" nizhe") for text in texts)
        assert all(text.isascii() for text in texts)
    assert [document.text for document in read_documents(corpus, "general", "heldout")] == [
        "Kyiv, ty",
        "riben",
    ]
    assert metrics["transliterated"] == {"domain.0": True, "general.0": "ukr"}
    assert f"transliterating {russian['path']}" in messages


@pytest.mark.parametrize("off", [{}, {"transliterate": False}])
def test_other_sources_keep_their_letters(base: Artifact, tmp_path: Path, off: dict[str, Any]) -> None:
    texts = write(tmp_path / "russian.jsonl", *(f"Пульс {number}" for number in range(60)))
    corpus, metrics, _ = run(base, tmp_path, domain=[{**texts, **off}])
    assert next(read_documents(corpus, "domain", "train")).text.startswith("Пульс")
    assert metrics["transliterated"] == {}


def test_transliteration_without_uroman_is_found_before_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer_tools.transliteration.find_spec", lambda name: None)
    found = problems(None, general=[{"path": "g.txt", "transliterate": "ukr"}])
    assert list(found) == ["general.0.transliterate"]
    assert "pip install" in found["general.0.transliterate"]
    assert problems(None) == {}


def test_several_sources_and_python_prose(base: Artifact, domain: dict[str, str], tmp_path: Path) -> None:
    more = write(tmp_path / "more.jsonl", "one more")
    corpus, _, _ = run(base, tmp_path, domain=[domain, more], general=[{"path": "python:pydoc_data.topics"}])
    assert read_index(corpus).sources["domain"].documents_in == 121
    assert read_index(corpus).sources["general"].documents_in > 50


def test_an_engine_that_is_not_installed_is_found_before_running(
    base: Artifact, domain: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "vllm" else find(name))
    for engine, told in (("vllm", True), ("transformers", False)):
        replay = {"self_generated": {"tokens": 100, "engine": engine}}
        config = CorpusConfig.model_validate({"domain": [domain], "replay": replay})
        problems = {problem.key: problem.message for problem in STAGE.check(config, {"model": base})}
        assert ("replay.self_generated.engine" in problems) == told
        if told:
            assert "pip install 'cpt-workbench[vllm]'" in problems["replay.self_generated.engine"]


def test_self_generated_replay_passes_its_settings_on(
    base: Artifact, domain: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def generate(**settings: Any) -> Iterator[Document]:
        asked.update(settings)
        yield from (Document(str(number), f"sample {number}") for number in range(5))
        yield from (Document("again", "sample 1"), Document("empty", ""))

    stand_in = types.ModuleType("cpt.corpus.self_generated")
    stand_in.generate = generate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cpt.corpus.self_generated", stand_in)
    wanted = {"tokens": 100, "length": 32, "batch": 4, "temperature": 0.7}
    corpus, _, _ = run(base, tmp_path, domain=[domain], replay={"self_generated": wanted})
    assert asked.pop("progress")
    assert asked.pop("work").parent.parent == tmp_path / "work-out"
    assert asked == {
        **wanted,
        "engine": "transformers",
        "model_folder": base.path("model"),
        "seed": 17,
        "start_token": "<s>",
        "end_token": "</s>",
    }
    counts = read_index(corpus).sources["replay"]
    assert counts.splits["train"].documents == 5
    assert counts.removed_documents == {"duplicate": 1, "empty": 1, "duplicate_of_heldout": 0}


def test_references_are_all_sources_but_not_what_the_model_writes() -> None:
    config = {"domain": [{"path": "a.jsonl"}, {"path": "b"}], "general": [{"path": "g.txt"}]}
    listed = CorpusConfig.model_validate({**config, "replay": [{"path": "r.txt"}]})
    assert STAGE.references(listed) == ["a.jsonl", "b", "r.txt", "g.txt"]
    written = CorpusConfig.model_validate({**config, "replay": {"self_generated": {"tokens": 9}}})
    assert STAGE.references(written) == ["a.jsonl", "b", "g.txt"]


# Mistakes


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": []},
        {"heldout": 0},
        {"heldout": 0.5},
        {"sequence_length": 15},
        {"general": [{"path": ""}]},
        {"general": [{"path": "a", "format": "xls"}]},
        {"general": [{"path": "a", "field": "body"}]},
        {"general": [{"path": "a", "transliterate": "Ukrainian"}]},
        {"replay": []},
        {"replay": {}},
        {"replay": {"self_generated": {"tokens": 5}, "sources": [{"path": "a"}]}},
        {"replay": {"self_generated": {"tokens": 0}}},
        {"replay": {"self_generated": {"tokens": 5, "temperature": 0}}},
        {"replay": {"self_generated": {"tokens": 5, "length": 8}}},
        {"shuffle": True},
    ],
)
def test_what_the_schema_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], **wrong})


def test_all_that_does_not_fit_the_model_is_found_before_running(base: Artifact) -> None:
    generated = {"self_generated": {"tokens": 5, "length": 200}}
    found = problems(base, sequence_length=256, start_token="<S>", end_token="nope", replay=generated)
    assert "256 tokens are more than the 128 positions" in found["sequence_length"]
    assert "200 tokens are more than the 128 positions" in found["replay.self_generated.length"]
    assert "no token '<S>'\n  It has, for example, <s>" in found["start_token"]
    assert "no token 'nope'" in found["end_token"]
    assert problems(base, sequence_length=128) == {}
    assert problems(None, sequence_length=256, start_token="<S>") == {}


@pytest.mark.parametrize(
    "facts", [{"text_config": {"max_position_embeddings": 100}}, {"n_positions": 100}, {"other": 1}]
)
def test_the_models_length_is_read_from_every_kind_of_config(base: Artifact, facts: dict[str, Any]) -> None:
    (base.path("model") / "config.json").write_text(json.dumps(facts))
    assert ("sequence_length" in problems(base, sequence_length=101)) == ("other" not in facts)


def test_a_source_that_cannot_be_read_is_found_before_running(tmp_path: Path) -> None:
    (tmp_path / "notes.odt").write_text("x")
    sources = [
        {"path": "org/name"},
        {"path": str(tmp_path / "notes.odt")},
        {"path": "wheel:a==1/data.ods"},
        {"path": "hub:datasets/org/name/data.ods"},
        {"path": "hub:datasets/org/name/data.ods", "format": "text"},
        {"path": str(tmp_path)},
        {"path": "python:pydoc_data.topics"},
        {"path": next(name for name in PINNED_SHA256 if name.endswith(".obo"))},
    ]
    found = problems(None, domain=sources)
    assert set(found) == {"domain.0.path", "domain.1.format", "domain.2.format", "domain.3.format"}
    assert "hub:datasets/org/name/path" in found["domain.0.path"]
    assert "format of notes.odt cannot be told" in found["domain.1.format"]
    assert set(problems(None, replay=sources[:1], general=sources[:1])) == {"replay.0.path", "general.0.path"}


@pytest.mark.parametrize("key", ["domain", "replay", "general"])
def test_an_empty_source_is_explained(
    base: Artifact, domain: dict[str, str], tmp_path: Path, key: str
) -> None:
    empty = write(tmp_path / "empty.jsonl", " ", " ")
    with pytest.raises(DataError, match=rf"{key}: no documents: 2 documents in, 2 removed \(empty 2\)"):
        run(base, tmp_path, **{"domain": [domain], key: [empty]})


def test_a_domain_that_cannot_be_split_is_explained(base: Artifact, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("a whole book")
    with pytest.raises(DataError, match=r"20% of the 1 document, the most to be taken, are 0 documents"):
        run(base, tmp_path, domain=[{"path": str(tmp_path / "book.txt")}], heldout=0.01)
    texts = [f"text {number}" for number in range(3)]
    seed = next(seed for seed in range(1000) if _all_held_out(texts, seed))
    with pytest.raises(DataError, match=r"none of the 3 documents is left for training at heldout: 0\.45"):
        run(base, tmp_path, seed=seed, domain=[write(tmp_path / "few.jsonl", *texts)], heldout=0.45)


def _all_held_out(texts: list[str], seed: int) -> bool:
    from cpt.corpus.digests import digest
    from cpt.corpus.heldout import ByHash

    rule = ByHash(0.45, seed)
    return all(rule(digest(text)) == "heldout" for text in texts)


def test_an_unknown_token_stops_a_run_too(base: Artifact, domain: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token 'nope'"):
        run(base, tmp_path, domain=[domain], end_token="nope")
