"""`cpt corpus dedup`, `decontaminate` and `select`: steps of the corpus stage without a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from corpus_runs import records, write

from cpt.corpus import read_documents, read_index
from cpt.corpus.readers import Extracting

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left(folder: Path) -> list[str]:
    return [document.text for document in read_documents(folder, "domain", "train")]


def test_dedup_removes_exact_and_near_duplicates_of_texts_and_of_heldout_text(
    folder: Path, called: Any
) -> None:
    body = " ".join(f"word{number}" for number in range(90))
    notes = [f"{body} {number}" for number in range(3)]
    write(folder / "a.jsonl", WORDS, *notes, WORDS)
    write(folder / "b.jsonl", f"{WORDS} sixteen", "another text altogether", "kept out of everything")
    write(folder / "heldout.jsonl", "kept out of everything")
    words = ("--text", "first=a.jsonl", "--text", "b.jsonl", "--heldout", "heldout.jsonl", "--out", "clean")
    outcome = called("corpus", "dedup", *words, "--json")
    assert outcome.code == 0, outcome.err
    ledger = outcome.json["sources"]["domain"]
    assert (ledger["documents_in"], ledger["documents_out"]) == (8, 3)
    removed = {name: amount["documents"] for name, amount in ledger["removed"].items()}
    assert removed == {"duplicate": 1, "duplicate_of_heldout": 1, "empty": 0, "near_duplicate": 3}
    assert left(folder / "clean") == [WORDS, notes[0], "another text altogether"]
    outcome = called("corpus", "inspect", "clean", "--block", "near_duplicate")
    assert "like domain: a.jsonl:2" in outcome.out
    exact = called("corpus", "dedup", *words[:4], "--out", "exact", "kind=exact", "--json").json
    assert exact["sources"]["domain"]["documents_out"] == 7
    assert called("corpus", "stats", "exact").code == 0


def test_a_recipe_reads_what_is_left(folder: Path, called: Any, tiny_model: Path) -> None:
    write(folder / "a.jsonl", *(f"finding {number}" for number in range(60)), "finding 7")
    told = called("corpus", "dedup", "--text", "a.jsonl", "--out", "clean", "kind=exact").out
    assert "a recipe reads it by `path: clean/documents/domain.train.parquet`" in told
    corpus = {
        "domain": [{"path": "clean/documents/domain.train.parquet"}],
        "heldout": 0.2,
        "heldout_min": {"documents": 1, "bytes": 1},
        "sequence_length": 64,
    }
    (folder / "r.yaml").write_text(
        json.dumps({"name": "r", "base": str(tiny_model), "stages": [{"corpus": corpus}]})
    )
    built = called("corpus", "build", "r.yaml", "--workers", "1", "--json")
    assert built.code == 0, built.err
    assert built.json["sources"]["domain"]["documents_out"] == 60


def test_decontaminate_drops_or_cuts_items(folder: Path, called: Any) -> None:
    long = " ".join(f"word{number}" for number in range(200))
    write(folder / "a.jsonl", f"{long} {WORDS} {long}", "clean text")
    (folder / "items.jsonl").write_text(json.dumps({"question": WORDS}) + "\n")
    words = ("corpus", "decontaminate", "--text", "a.jsonl", "--items", "items.jsonl", "--json")
    dropped = called(*words, "--out", "dropped")
    assert dropped.code == 0, dropped.err
    assert dropped.json["sources"]["domain"]["removed"]["contaminated"]["documents"] == 1
    assert left(folder / "dropped") == ["clean text"]
    assert "items.jsonl" in (folder / "dropped" / "contamination.jsonl").read_text()
    assert called(*words, "--out", "cut", "action=cut").code == 0
    [text, _] = left(folder / "cut")
    assert "word0 " in text
    assert "seven" not in text
    assert called(*words, "--out", "none", "ngram=16").code == 1
    assert not (folder / "none").exists()


def test_select_takes_the_best_up_to_a_number_of_tokens(folder: Path, called: Any, tiny_model: Path) -> None:
    write(
        folder / "a.jsonl", *(f"{kind} {number} " * 12 for number in range(20) for kind in ("bone", "court"))
    )
    write(folder / "target.jsonl", *(f"bone {number}" for number in range(9)))
    words = ("corpus", "select", "--text", "a.jsonl", "--model", tiny_model, "--json", "tokens=900")
    by = "by={kind: dsir, target: [{path: target.jsonl}], sampled: false}"
    outcome = called(*words, by, "max_repetition=1", "--out", "best")
    assert outcome.code == 0, outcome.err
    texts = left(folder / "best")
    assert 0 < len(texts) < 20
    assert all(text.startswith("bone") for text in texts)
    assert (folder / "best" / "selection.parquet").exists()
    first = called(*words, "by=random", "max_repetition=1", "--out", "r1", "--seed", "1")
    other = called(*words, "by=random", "max_repetition=1", "--out", "r2", "--seed", "2")
    assert (first.code, other.code, left(folder / "r1") != left(folder / "r2")) == (0, 0, True)


def test_select_by_the_base_rates_as_a_recipe_does(folder: Path, called: Any, tiny_model: Path) -> None:
    write(folder / "a.jsonl", *(f"finding {number} of {'bone ' * (number % 9)}" * 9 for number in range(60)))
    select = {"tokens": 900, "by": "base", "max_repetition": 1}
    positions = json.loads((tiny_model / "config.json").read_text())["max_position_embeddings"]
    corpus = {"domain": [{"path": "a.jsonl"}], "sequence_length": positions, "select": select, "heldout": 0.2}
    stages = [{"corpus": corpus | {"heldout_min": {"documents": 1, "bytes": 1}}}]
    (folder / "r.yaml").write_text(json.dumps({"name": "r", "base": str(tiny_model), "stages": stages}))
    built = called("corpus", "build", "r.yaml", "--json")
    assert built.code == 0, built.err
    words = ("--text", "a.jsonl", "--model", tiny_model, "--out", "best")
    alone = called("corpus", "select", *words, "tokens=900", "by=base", "max_repetition=1")
    assert alone.code == 0, alone.err
    by_recipe, by_command = (
        {row["id"]: (row["score"], row["tokens"]) for row in pq.read_table(file).to_pylist()}
        for file in (Path(built.json["folder"]) / "selection.parquet", folder / "best" / "selection.parquet")
    )
    assert len(by_command) == 60 > len(by_recipe)  # no document is held out
    assert by_recipe == {id: by_command[id] for id in by_recipe}


def test_mistakes_are_told_before_anything_is_written(folder: Path, called: Any, tiny_model: Path) -> None:
    write(folder / "a.jsonl", "a")
    (folder / "odd").write_bytes(b"\x00")
    for words, told in (
        (("dedup", "--text", "missing.jsonl", "--out", "x"), "missing.jsonl"),
        (("dedup", "--text", "a.jsonl", "--out", "x", "band=3"), "bands"),
        (("dedup", "--text", "a.jsonl", "--out", "x", "bands=0"), "bands"),
        (("dedup", "--text", "a.jsonl", "--out", "."), "exists already"),
        (("decontaminate", "--text", "a.jsonl", "--out", "x"), "name the benchmarks"),
        (("decontaminate", "--text", "a.jsonl", "--out", "x", "--suite", "nothing"), "nothing"),
        (("select", "--text", "a.jsonl", "--out", "x", "--model", tiny_model), "give tokens"),
        (
            ("select", "--text", "a.jsonl", "--out", "x", "--model", tiny_model, "tokens=9", "by=magic"),
            "magic",
        ),
        (
            ("select", "--text", "a.jsonl", "--out", "x", "--model", tiny_model, "tokens=9", "min_tokens=8"),
            "tokens",
        ),
    ):
        outcome = called("corpus", *words)
        assert (outcome.code in (1, 2), told in outcome.err) == (True, True), (words, outcome.err)
        assert not (folder / "x").exists()


def test_a_text_may_be_a_source_as_a_recipe_has_it(folder: Path, called: Any) -> None:
    records(folder / "scored.jsonl", *({"body": f"text {n}", "score": n} for n in range(4)))
    (folder / "table.data").write_text("text;score\nfrom a table;9\n")
    (folder / "heldout.data").write_text(json.dumps({"words": "text 2"}) + "\n")
    outcome = called(
        "corpus",
        "dedup",
        "--text",
        "{path: scored.jsonl, text_field: body, metadata: [score], limit: 3, licence: MIT, language: en}",
        "--text",
        "table={path: table.data, format: csv, delimiter: ;, metadata: [score]}",
        "--heldout",
        "{path: heldout.data, format: jsonl, text_field: words}",
        *("--out", "clean", "kind=exact"),
    )
    assert outcome.code == 0, outcome.err
    found = {each.text: each.metadata for each in read_documents(folder / "clean", "domain", "train")}
    assert found == {"text 0": {"score": 0}, "text 1": {"score": 1}, "from a table": {"score": "9"}}
    listed = read_index(folder / "clean").sources["domain"].listed
    first = listed[str(folder / "scored.jsonl")]
    assert (first.licence, first.language, "table" in listed) == ("MIT", "en", True)


def test_the_help_shows_a_source_with_its_metadata(called: Any) -> None:
    assert called("corpus", "dedup", "--help").out.count("[score]}") == 2


def test_select_keeps_metadata_of_its_texts(folder: Path, called: Any, tiny_model: Path) -> None:
    rows = ({"text": f"{kind} {n} " * 12, "n": n} for n in range(20) for kind in ("bone", "court"))
    records(folder / "a.jsonl", *rows)
    words = ("--text", "{path: a.jsonl, metadata: [n]}", "--model", tiny_model, "--out", "best")
    outcome = called("corpus", "select", *words, "tokens=900", "by=random", "max_repetition=1")
    assert outcome.code == 0, outcome.err
    kept = list(read_documents(folder / "best", "domain", "train"))
    assert all(each.metadata == {"n": int(each.text.split()[1])} for each in kept)


def test_mistakes_in_a_source_are_told_with_option_and_key(folder: Path, called: Any) -> None:
    write(folder / "a.jsonl", "a")
    for option, source, told in (
        ("--text", "{path: a.jsonl, metdata: [score]}", ("--text.1.metdata", "Did you mean `metadata`?")),
        ("--text", "{path: a.jsonl, limit: true}", ("--text.1.limit", "must be a number")),
        ("--text", "{path: a.jsonl, delimiter: ;}", ("--text.1.delimiter", "jsonl has no delimiter")),
        ("--text", "{path: a.jsonl, chat: messages}", ("--text.1.chat", "cpt corpus build")),
        ("--text", "{path: a.jsonl", ("--text: ", "Write a source like")),
        ("--text", "b={path: a.jsonl, name: c}", ("two names",)),
        ("--text", "{format: jsonl}", ("--text.1.path",)),
        ("--heldout", "{path: a.jsonl, split: test}", ("--heldout.split", "no splits")),
    ):
        outcome = called("corpus", "dedup", "--text", "a.jsonl", option, source, "--out", "x", "kind=exact")
        assert outcome.code == 2, (source, outcome.err)
        assert all(part in outcome.err for part in told), (source, outcome.err)
        assert not (folder / "x").exists()


def test_tokens_of_text_that_was_never_tokenised_are_not_told(folder: Path, called: Any) -> None:
    write(folder / "a.jsonl", "a", "b")
    told = called("corpus", "dedup", "--text", "a.jsonl", "--out", "clean", "kind=exact", "--json").json
    assert told["sources"]["domain"]["tokens"] is None
    shown = called("corpus", "stats", "clean").out
    assert shown.splitlines()[-1].split()[-1] == "\N{EN DASH}"


def test_text_of_files_is_extracted_by_as_many_processes_as_asked_for(
    folder: Path, called: Any, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    from cpt.stages.corpus import alone

    asked = []

    def extracting(processes: int) -> Any:
        asked.append(processes)
        return Extracting(processes)

    monkeypatch.setattr(alone, "Extracting", extracting)
    monkeypatch.setattr("cpt.corpus.workers.os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    write(folder / "a.jsonl", f"{WORDS} " * 4, "another text")
    write(folder / "items.jsonl", WORDS)
    select = ("select", "--text", "a.jsonl", "--model", tiny_model, "tokens=8", "by=random", "min_tokens=8")
    for words in (
        ("dedup", "--text", "a.jsonl", "kind=exact"),
        ("decontaminate", "--text", "a.jsonl", "--items", "items.jsonl"),
        (*select, "max_repetition=1"),
        ("study", "a.jsonl", "miners=[glossary]"),
    ):
        for workers, count in (((), 5), (("--workers", "3"), 3)):
            asked.clear()
            made = ("--inspect",) if words[0] == "study" else ("--out", f"{words[0]}{count}")
            outcome = called("corpus", *words, *made, *workers)
            assert (outcome.code, asked) == (0, [count]), (words, outcome.err)
