"""Cleaning blocks in the corpus stage: their order, the ledger of bytes, the examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_runs import Heard, byte_model, records, run, write
from pydantic import ValidationError

from cpt.corpus import read_documents, read_index, workers
from cpt.corpus.blocks import clean, learn
from cpt.corpus.blocks.boilerplate import Boilerplate
from cpt.corpus.blocks.gopher import Gopher
from cpt.corpus.blocks.unicode import Unicode
from cpt.corpus.blocks.whitespace import Whitespace
from cpt.corpus.documents import Document, Removed
from cpt.corpus.examples import Examples, read_examples
from cpt.corpus.index import SourceCounts
from cpt.errors import DataError
from cpt.recipe.fingerprint import config_data
from cpt.stages.base import Artifact, Context
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
    assert domain_counts.rewritten == {"unicode": 1, "whitespace": 1}
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


HEADER = "Printed from the register of the court"


def opinions(number: int) -> list[str]:
    return [f"{HEADER}, page {at}\nOpinion {at} is affirmed, {'x' * at}." for at in range(number)]


def test_what_repeats_is_learnt_for_each_source_alone(base: Artifact, tmp_path: Path) -> None:
    domain = write(tmp_path / "domain.jsonl", *opinions(80))
    replay = write(tmp_path / "replay.jsonl", *opinions(5), *(f"own {at}" for at in range(80)))
    block = {"kind": "boilerplate", "share": 0.9}
    corpus, _, messages = run(base, tmp_path, domain=[domain], replay=[replay], clean=[block])
    counts = read_index(corpus).sources
    texts = [document.text for document in read_documents(corpus, "domain", "train")]
    assert not any(HEADER in text for text in texts)
    assert all("is affirmed" in text for text in texts)
    assert counts["domain"].removed["boilerplate"].bytes == sum(
        len(f"{HEADER}, page {at}\n") for at in range(80)
    )
    assert "boilerplate" not in counts["replay"].removed
    assert "domain: learning which lines repeat" in messages
    _, _, messages = run(base, tmp_path, "plain", domain=[domain], clean=["whitespace"])
    assert not any("learning" in message for message in messages)


def test_removed_documents_are_counted_with_their_bytes_and_reasons(base: Artifact, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("fool\n")
    texts = ["You fool!", "Dosis: 5 mg", "text 1 of 2001", *(f"text {at}" for at in range(80))]
    domain = write(tmp_path / "domain.jsonl", *texts)
    blocks = [
        {"kind": "toxicity", "words": str(words)},
        {"kind": "age", "pattern": "text 1.*", "first": 2000},
    ]
    corpus, _, messages = run(base, tmp_path, domain=[domain], clean=blocks)
    counts = read_index(corpus).sources["domain"]
    assert "domain: 81 of 82 documents have no year for age, and are kept" in messages
    assert counts.judged["age"].model_dump() == {"documents": 82, "unknown": 81}
    assert counts.removed["toxicity"].model_dump() == {"documents": 1, "bytes": 9}
    assert "age" not in counts.removed
    [example] = [example for example in read_examples(corpus) if example.block == "toxicity"]
    assert (example.before, example.after) == ("You fool!", None)
    assert example.detail == "1 of 2 words, first: fool"


def test_a_block_that_finds_no_year_at_all_stops_the_stage(base: Artifact, tmp_path: Path) -> None:
    domain = write(tmp_path / "domain.jsonl", *(f"text {at}" for at in range(80)))
    with pytest.raises(DataError, match="age found no year in any of 80 documents"):
        run(base, tmp_path, domain=[domain], clean=[{"kind": "age", "pattern": "text.*", "first": 2000}])


def test_files_of_blocks_are_references_of_the_stage() -> None:
    block = {"kind": "toxicity", "words": "lists/words.txt"}
    config = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "clean": ["unicode", block]})
    assert STAGE.references(config) == ["a.jsonl", "lists/words.txt"]


def test_a_file_of_a_block_that_changes_before_the_run_stops_it(base: Artifact, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("fool\n")
    domain = write(tmp_path / "domain.jsonl", *map(str, range(80)))
    config = CorpusConfig.model_validate(
        {"domain": [domain], "clean": [{"kind": "toxicity", "words": str(words)}]}
    )
    context = Context(
        output=tmp_path / "out",
        work=tmp_path / "work",
        seed=17,
        progress=Heard(),
        recipe={},
        contents={str(words): "fingerprint of another content"},
    )
    with pytest.raises(DataError, match=r"words\.txt"):
        STAGE.run(config, {"model": base}, context)


def test_a_block_with_an_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "clean": ["pii"]})
    assert "pip install 'cpt-workbench[pii]'" in (config.clean[0].problem() or "")


def test_conversations_are_removed_but_not_rewritten() -> None:
    texts = [
        f"<|im_start|>user\nWhat is  {n}?<|im_end|>\n<|im_start|>assistant\n{n}<|im_end|>\n"
        for n in range(40)
    ]
    chats = [Document(f"chat:{n}", text, marked=True) for n, text in enumerate(texts)]
    plain = [Document(f"plain:{n}", f"You  fool {n}") for n in range(20)]
    blocks = learn(lambda: [*chats, *plain], [Boilerplate(share=0.1), Whitespace()])
    counts = SourceCounts()
    left = list(clean([*chats, *plain], blocks, counts, Examples("domain")))
    assert left[:40] == chats
    assert [item.text for item in left[40:]] == [f"You fool {n}" for n in range(20)]
    assert counts.removed["whitespace"].bytes == 20
    removed = list(clean(chats, [Gopher()], counts, Examples("domain")))
    assert {item.reason for item in removed if isinstance(item, Removed)} == {"gopher"}


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ({"kind": "age", "field": "date", "first": 2010}, True),
        ({"kind": "age", "field": "year", "first": 2010}, False),
        ({"kind": "age", "pattern": ".*", "first": 2010}, False),
        ({"kind": "age", "field": "year", "first": 2010, "unknown": "remove"}, True),
        ({"kind": "age", "field": "year", "pattern": ".*", "first": 2010, "unknown": "remove"}, False),
        ({"kind": "quality", "field": "year", "min": 1, "unknown": "remove"}, True),
        ({"kind": "quality", "field": "year", "min": 1, "unknown": "keep"}, False),
    ],
)
def test_fields_that_no_source_keeps_are_found_before_running(
    base: Artifact, block: dict[str, object], wrong: bool
) -> None:
    sources = {"domain": [{"path": "a.jsonl", "metadata": ["year"]}], "replay": [{"path": "b.jsonl"}]}
    config = CorpusConfig.model_validate({**sources, "clean": [block]})
    keys = [problem.key for problem in STAGE.check(config, {"model": base})]
    assert ("clean.0.field" in keys) is wrong


def test_a_pattern_is_no_word_list(base: Artifact) -> None:
    block = {"kind": "toxicity", "words": "lists/*.txt"}
    config = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "clean": [block]})
    problems = {problem.key: problem.message for problem in STAGE.check(config, {"model": base})}
    assert "no single file" in problems["clean.0"]


def test_reference_text_is_cleaned_and_holds_no_held_out_text(base: Artifact, tmp_path: Path) -> None:
    texts = [f"finding  number {n} of the  report, which is long enough to be rated" for n in range(90)]
    domain = write(tmp_path / "domain.jsonl", *texts)
    by = {"kind": "n-gram", "reference": [domain], "order": 1}
    select = {"tokens": 400, "by": by, "max_repetition": 1.0}
    corpus, metrics, _ = run(base, tmp_path, domain=[domain], clean=["whitespace"], select=select)
    held = read_index(corpus).sources["domain"].splits["heldout"].documents
    assert metrics["selection"]["reference"]["removed"]["duplicate_of_heldout"] == held > 0


def by_kind(reference: dict[str, object]) -> list[dict[str, object]]:
    return [
        {"kind": "n-gram", "reference": [reference], "order": 1},
        {"kind": "dsir", "target": [reference]},
        {"kind": "classifier", "positive": [reference], "negative": [{**reference, "path": "n.jsonl"}]},
    ]


@pytest.mark.parametrize("at", range(3))
def test_reference_text_without_a_field_that_a_block_needs_is_found_before_running(
    base: Artifact, at: int
) -> None:
    block: dict[str, object] = {"kind": "quality", "field": "score", "min": 2}
    for kept, unknown, wrong in (([], "remove", True), (["score"], "remove", False), ([], "keep", False)):
        by = by_kind({"path": "r.jsonl", "metadata": kept})[at]
        config = CorpusConfig.model_validate(
            {
                "domain": [{"path": "a.jsonl", "metadata": ["score"]}],
                "clean": [{**block, "unknown": unknown}],
                "select": {"tokens": 9, "by": by},
            }
        )
        found = {problem.key: problem for problem in STAGE.check(config, {"model": base})}
        assert ("clean.0.field" in found) is wrong
        assert not [key for key in found if key and "metadata" in key]
        if wrong:
            assert "select.by." in found["clean.0.field"].message
            assert "metadata: [score]" in str(found["clean.0.field"].hint)


def test_reference_text_is_cleaned_by_a_field_of_its_records(base: Artifact, tmp_path: Path) -> None:
    texts = [f"finding number {n} of the report, which is long enough to be rated" for n in range(90)]
    rows = [{"text": text, "score": n % 3} for n, text in enumerate(texts)]
    domain = {"path": records(tmp_path / "domain.jsonl", *rows), "metadata": ["score"]}
    others = [{"text": f"reference {n}", "score": n % 2} for n in range(40)]
    reference = {"path": records(tmp_path / "reference.jsonl", *others), "metadata": ["score"]}
    by = {"kind": "n-gram", "reference": [reference], "order": 1}
    select = {"tokens": 400, "by": by, "max_repetition": 1.0}
    block = {"kind": "quality", "field": "score", "min": 1}
    _, metrics, _ = run(base, tmp_path, domain=[domain], clean=[block], select=select)
    assert metrics["selection"]["reference"]["removed"]["quality"] == 20
