"""Cleaning blocks in the corpus stage: their order, the ledger of bytes, the examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_runs import byte_model, run, write
from pydantic import ValidationError

from cpt.corpus import read_documents, read_index, workers
from cpt.corpus.blocks.unicode import Unicode
from cpt.corpus.examples import read_examples
from cpt.recipe.fingerprint import config_data
from cpt.stages.base import Artifact
from cpt.stages.corpus.stage import STAGE, CorpusConfig


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


def test_all_sources_are_cleaned_before_duplicates_are_sought(base: Artifact, tmp_path: Path) -> None:
    domain = write(tmp_path / "domain.jsonl", "fiancÃ©e  A", "fiancée A", "clean", *map(str, range(80)))
    replay = write(tmp_path / "replay.jsonl", "old \t text")
    general = write(tmp_path / "general.jsonl", "general\r\ntext", "more")
    sources = {"domain": [domain], "replay": [replay], "general": [general]}
    corpus, _, _ = run(base, tmp_path, **sources, clean=["unicode", "whitespace"])
    index = read_index(corpus)
    texts = {document.text for document in read_documents(corpus, "domain", "train")}
    texts |= {document.text for document in read_documents(corpus, "domain", "heldout")}
    assert texts == {"fiancée A", "clean", *map(str, range(80))}
    assert [document.text for document in read_documents(corpus, "replay", "train")] == ["old text"]
    domain_counts = index.sources["domain"]
    assert domain_counts.removed["duplicate"].documents == 1
    assert domain_counts.removed["unicode"].model_dump() == {"documents": 0, "bytes": 2}
    for counts in index.sources.values():
        kept = sum(split.bytes for split in counts.splits.values())
        assert counts.bytes_in == kept + sum(amount.bytes for amount in counts.removed.values())
    examples = {(example.source, example.block): example for example in read_examples(corpus)}
    assert examples["domain", "unicode"].after == "fiancée  A"
    assert examples["domain", "duplicate"].before == "fiancée A"
    assert examples["general", "unicode"].after == "general\ntext"


def test_without_blocks_text_is_left_as_it_is(base: Artifact, tmp_path: Path) -> None:
    texts = ["fiancÃ©e  A", *map(str, range(80))]
    corpus, _, _ = run(base, tmp_path, domain=[write(tmp_path / "domain.jsonl", *texts)])
    kept = [
        document.text for side in ("train", "heldout") for document in read_documents(corpus, "domain", side)
    ]
    assert sorted(kept) == sorted(texts)


def test_blocks_have_settings_and_are_given_once() -> None:
    domain = [{"path": "a.jsonl"}]
    config = CorpusConfig.model_validate(
        {"domain": domain, "clean": [{"kind": "whitespace", "empty_lines": 3}]}
    )
    assert config.clean[0].empty_lines == 3  # type: ignore[union-attr]
    for wrong in (["whitespace", "whitespace"], ["nothing"], [{"kind": "unicode", "form": "NFC"}]):
        with pytest.raises(ValidationError):
            CorpusConfig.model_validate({"domain": domain, "clean": wrong})


def test_a_missing_library_is_found_before_running(base: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unicode, "libraries", {"no_such_module": "clean"})
    config = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "clean": ["unicode"]})
    problems = {problem.key: problem.message for problem in STAGE.check(config, {"model": base})}
    assert problems["clean.0"] == "unicode needs no_such_module: pip install 'cpt-workbench[clean]'"


def test_any_number_of_processes_makes_the_same_corpus(
    base: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.corpus.workers._INLINE", 1)
    monkeypatch.setattr("cpt.corpus.workers._CHUNK_ITEMS", 20)
    begun = []
    pool = workers.ProcessPoolExecutor
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *some: begun.append(some[0]) or pool(*some))
    domain = write(tmp_path / "domain.jsonl", *(f"finding  {n} " * (n % 40) for n in range(90)))
    files = []
    for count in (1, 2):
        corpus, _, _ = run(
            base, tmp_path, out=f"out{count}", domain=[domain], clean=["whitespace"], workers=count
        )
        paths = sorted(path for path in corpus.rglob("*") if path.is_file())
        files.append({path.relative_to(corpus): path.read_bytes() for path in paths})
    assert files[0] == files[1]
    assert set(begun) == {2}
    config = CorpusConfig.model_validate({"domain": [domain], "workers": 3})
    assert config_data(config) == config_data(CorpusConfig.model_validate({"domain": [domain]}))
