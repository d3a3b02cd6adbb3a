"""Near-duplicates in the corpus stage: keys, order of sources, counts, and a run that was killed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from corpus_runs import byte_model, run, write
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))

from near_copies import near_copy, unrelated

from cpt.corpus import read_documents, read_index
from cpt.corpus.examples import read_examples
from cpt.corpus.minhash import MinHash, sign
from cpt.stages.base import Artifact
from cpt.stages.corpus.stage import STAGE, CorpusConfig

TEXTS = unrelated(np.random.default_rng(0), 40, 60)
COPIES = [near_copy(text, 5, 2)[0] for text in TEXTS]  # 0.93 alike
ALMOST = [near_copy(text, 5, 10)[0] for text in TEXTS]  # 0.7 alike
FULL = {
    "domain": [*TEXTS[:20], *COPIES[:5], *ALMOST[5:10]],
    "replay": [*COPIES[10:15], *TEXTS[20:30]],
    "general": [*COPIES[15:18], *TEXTS[30:]],
}


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


def sources(tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    return {name: [write(tmp_path / f"{name}.jsonl", *texts)] for name, texts in FULL.items()}


def trained(corpus: Path, source: str) -> list[str]:
    return [document.text for document in read_documents(corpus, source, "train")]


def test_near_duplicates_within_and_across_sources_do_not_train(base: Artifact, tmp_path: Path) -> None:
    corpus, metrics, messages = run(base, tmp_path, **sources(tmp_path), deduplicate="minhash")
    heldout = {document.text for document in read_documents(corpus, "domain", "heldout")}
    originals = {text: text for text in TEXTS} | dict(zip(COPIES, TEXTS, strict=True))
    domain = [originals.get(text, text) for text in trained(corpus, "domain") if text not in ALMOST]
    assert len(set(domain)) == len(domain)
    assert not set(domain) & {originals.get(text, text) for text in heldout}
    assert not set(domain) & set(TEXTS[15:18])  # general
    assert trained(corpus, "replay") == TEXTS[20:30]
    index = read_index(corpus)
    for counts in index.sources.values():
        kept = sum(split.bytes for split in counts.splits.values())
        assert counts.bytes_in == kept + sum(amount.bytes for amount in counts.removed.values())
        kept = sum(split.documents for split in counts.splits.values())
        assert counts.documents_in == kept + sum(counts.removed_documents.values())
    lost = index.sources["domain"].removed_documents
    assert lost["near_duplicate"] > 0
    assert lost["near_duplicate_of_heldout"] >= 3 - len(heldout & set(TEXTS[15:18]))
    assert metrics["sources"]["replay"]["removed"]["near_duplicate"]["documents"] >= 4
    assert any(message.startswith("replay, without near-duplicates: 15 documents in") for message in messages)
    assert {each.block for each in read_examples(corpus) if each.like} == {
        "near_duplicate",
        "near_duplicate_of_heldout",
    }


def test_the_default_is_exact(base: Artifact, tmp_path: Path) -> None:
    given = sources(tmp_path)
    plain, _, _ = run(base, tmp_path, "plain", **given)
    exact, _, _ = run(base, tmp_path, "exact", **given, deduplicate="exact")
    assert trained(plain, "replay") == trained(exact, "replay") == FULL["replay"]
    assert read_index(plain) == read_index(exact)


def test_a_text_of_several_sources_and_parts_trains_once(base: Artifact, tmp_path: Path) -> None:
    parts = {"a": [*TEXTS[15:25], TEXTS[30]], "b": [*TEXTS[20:28], TEXTS[5], TEXTS[5]]}
    mixture = [
        {"name": name, "weight": 1, "sources": [write(tmp_path / f"{name}.jsonl", *texts)]}
        for name, texts in parts.items()
    ]
    given = sources(tmp_path) | {"domain": [write(tmp_path / "whole.jsonl", *TEXTS[:20])]}
    corpus, _, _ = run(base, tmp_path, **given | {"replay": {"mixture": mixture}})
    read = [text for name in ("domain", "replay.a", "replay.b") for text in trained(corpus, name)]
    assert len(set(read)) == len(read)
    removed = {name: read_index(corpus).sources[f"replay.{name}"].removed_documents for name in parts}
    held = sum(document.text in TEXTS[15:20] for document in read_documents(corpus, "domain", "heldout"))
    assert (removed["a"]["duplicate"], removed["a"]["duplicate_of_heldout"]) == (5 - held, 1 + held)
    assert removed["b"]["duplicate"] + removed["b"]["duplicate_of_heldout"] == 5 + 2


def test_every_setting_changes_what_is_removed(base: Artifact, tmp_path: Path) -> None:
    texts = [*TEXTS, *ALMOST, *COPIES]
    given = {"domain": [write(tmp_path / "domain.jsonl", *texts)]}

    def left(name: str, **settings: object) -> int:
        deduplicate = {"kind": "minhash", **settings}
        corpus, _, _ = run(base, tmp_path, name, **given, deduplicate=deduplicate)
        return len(trained(corpus, "domain"))

    default = left("default")
    assert left("threshold", threshold=0.95) > default
    assert left("bands", bands=60, threshold=0.6) < left("few", bands=14, threshold=0.6)
    assert left("rows", rows=40, threshold=0.6) > left("few", threshold=0.6)
    assert left("ngram", ngram=1) < default


def test_a_run_that_was_killed_goes_on_with_the_next_signature(
    base: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = sources(tmp_path)
    signed: list[str] = []

    def noting(texts: Iterable[str], settings: MinHash) -> Iterator[np.ndarray]:
        return sign((signed.append(text) or text for text in texts), settings)  # type: ignore[func-returns-value]

    monkeypatch.setattr("cpt.corpus.near_duplicates.sign", noting)
    whole, _, _ = run(base, tmp_path, "whole", **given, deduplicate="minhash")
    total = len(signed)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cpt.corpus.near_duplicates.find_near_duplicates", killed)
        patch.setattr("cpt.corpus.near_duplicates._FLUSHED_AT_ONCE", 1)
        with pytest.raises(KeyboardInterrupt):
            run(base, tmp_path, "killed", **given, deduplicate="minhash")
    [signatures] = (tmp_path / "work-killed").rglob("signatures")
    signatures.write_bytes(signatures.read_bytes()[: 4 * 5 * MinHash().numbers + 3])
    shutil.rmtree(tmp_path / "killed")
    signed.clear()
    again, _, _ = run(base, tmp_path, "killed", **given, deduplicate="minhash")
    assert len(signed) == total - 5
    assert not signatures.exists()
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [(whole / file).read_bytes() == (again / file).read_bytes() for file in files] == [True] * len(
        files
    )


def test_a_plan_tells_how_alike_near_duplicates_are() -> None:
    config = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "deduplicate": "minhash"})
    assert STAGE.forecast(config, {}, {}) == "without near-duplicates (72% alike)"


@pytest.mark.parametrize(
    "wrong",
    ["near", {"kind": "exact", "bands": 3}, {"kind": "minhash", "bands": 0}, {"kind": "minhash", "n": 5}],
)
def test_wrong_settings_are_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "deduplicate": wrong})
