"""`cpt corpus`: build one, its ledger, its examples, its documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_runs import write

RECIPE = """
name: notes
base: {base}
seed: 17
stages:
  - corpus:
      domain: [{{path: domain.jsonl}}]
      general: [{{path: general.jsonl}}]
      clean: [whitespace]
      heldout: 0.1
      heldout_min: {{documents: 1, bytes: 1}}
      sequence_length: 64
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a recipe and its texts the current one: 60 documents, a duplicate, an empty one."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "domain.jsonl", *(f"finding  {n}" for n in range(60)), "finding 7", " ")
    write(tmp_path / "general.jsonl", "general one", "general\r\ntwo")
    (tmp_path / "notes.yaml").write_text(RECIPE.format(base=tiny_model))
    return tmp_path


@pytest.fixture
def built(folder: Path, called: Any) -> dict[str, Any]:
    """Build the corpus; return what `--json` prints."""
    code, out, err = called("corpus", "build", "notes.yaml", "--json")
    assert code == 0, err
    return dict(json.loads(out))


def test_the_ledger_adds_up_and_names_every_block(built: dict[str, Any]) -> None:
    domain = built["sources"]["domain"]
    assert (domain["documents_in"], domain["documents_out"]) == (62, 60)
    assert domain["removed"]["duplicate"] == {"documents": 1, "bytes": 9}
    assert domain["removed"]["empty"] == {"documents": 1, "bytes": 0}
    assert domain["removed"]["whitespace"] == {"documents": 0, "bytes": 61}
    assert (domain["rewritten"], domain["unknown"]) == ({"whitespace": 61}, {})
    for source in built["sources"].values():
        removed = source["removed"].values()
        assert source["documents_in"] == source["documents_out"] + sum(each["documents"] for each in removed)
        assert source["bytes_in"] == source["bytes_out"] + sum(each["bytes"] for each in removed)
        assert source["tokens"] > source["documents_out"]


def test_it_is_built_once_and_later_stages_are_not_run(
    folder: Path, built: dict[str, Any], called: Any
) -> None:
    stages = "  - report: {}\n"
    (folder / "notes.yaml").write_text((folder / "notes.yaml").read_text() + stages)
    code, out, _ = called("corpus", "build", "notes.yaml", "--json")
    assert (code, json.loads(out)["folder"]) == (0, built["folder"])
    code, out, _ = called("corpus", "build", "notes.yaml", "corpus.clean=[]", "--json")
    again = json.loads(out)
    assert (code, again["folder"] == built["folder"]) == (0, False)
    assert "whitespace" not in again["sources"]["domain"]["removed"]
    code, out, _ = called("corpus", "build", "notes.yaml", "--force", "corpus")
    assert code == 0
    assert "whitespace" in out
    assert f"Corpus: {built['folder']}" in out


def test_a_recipe_without_a_corpus_is_refused(folder: Path, called: Any) -> None:
    text = (folder / "notes.yaml").read_text()
    (folder / "notes.yaml").write_text(text[: text.index("  - corpus")] + "  - report: {}\n")
    code, _, err = called("corpus", "build", "notes.yaml")
    assert (code, "no corpus stage" in err) == (2, True)


def test_stats_take_a_corpus_a_stage_or_a_run(built: dict[str, Any], called: Any) -> None:
    corpus = Path(built["folder"])
    for place in (corpus, corpus.parent, Path("runs/notes")):
        code, out, err = called("corpus", "stats", place, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["sources"] == built["sources"]
    code, out, _ = called("corpus", "stats", corpus)
    assert (code, "whitespace: rewritten" in out) == (0, True)
    code, _, err = called("corpus", "stats", "nowhere")
    assert (code, "no corpus" in err) == (2, True)


def test_inspect_shows_what_was_removed_and_rewritten(built: dict[str, Any], called: Any) -> None:
    examples = json.loads(called("corpus", "inspect", "runs/notes", "--json")[1])
    assert {(each["source"], each["block"]) for each in examples} == {
        ("domain", "whitespace"),
        ("domain", "duplicate"),
        ("domain", "empty"),
        ("general", "whitespace"),
    }
    some = json.loads(
        called(
            "corpus",
            "inspect",
            "runs/notes",
            "--block",
            "whitespace",
            "--source",
            "domain",
            "--most",
            2,
            "--json",
        )[1]
    )
    assert len(some) == 2
    assert all("  " in each["before"] and "  " not in each["after"] for each in some)
    code, out, _ = called("corpus", "inspect", "runs/notes", "--block", "duplicate")
    assert (code, "finding 7" in out) == (0, True)
    code, _, err = called("corpus", "inspect", "runs/notes", "--block", "duplicat")
    assert (code, "`duplicate`" in err) == (2, True)


def test_sample_draws_by_the_seed(built: dict[str, Any], called: Any) -> None:
    def drawn(*words: object) -> list[dict[str, str]]:
        return list(json.loads(called("corpus", "sample", "runs/notes", *words, "--json")[1]))

    first = drawn("--count", 4)
    assert [each["source"] for each in first] == ["domain"] * 4
    assert drawn("--count", 4) == first
    assert drawn("--count", 4, "--seed", 1) != first
    held = drawn("--split", "heldout", "--source", "general", "--count", 9)
    assert sorted(each["text"] for each in held) == ["general\ntwo", "general one"]
    code, out, _ = called("corpus", "sample", "runs/notes")
    assert (code, "finding" in out) == (0, True)
    code, _, err = called("corpus", "sample", "runs/notes", "--split", "test")
    assert (code, "train and heldout" in err) == (2, True)
