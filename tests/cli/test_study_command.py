"""`cpt corpus study` shows what can be asked about texts, or writes it for any trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invented import glossary_text

from evals.multiple_choice import read_items


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty documents, each with five terms of its own."""
    monkeypatch.chdir(tmp_path)
    rows = [{"text": glossary_text(number)} for number in range(30)]
    file = tmp_path / "mills.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_inspect_counts_items_and_shows_examples(texts: Path, called: Any) -> None:
    code, out, _ = called("corpus", "study", texts.name, "miners=[glossary]", "--inspect", "--most", "1")
    assert code == 0
    assert "glossary" in out
    assert "150" in out
    code, out, _ = called("corpus", "study", texts.name, "miners=[glossary]", "--inspect", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["items"] == {"glossary": {"define": 150, "name": 150}}
    assert {each["task"] for each in found["examples"]} == {"glossary.define", "glossary.name"}
    assert not list(texts.parent.glob("*.tmp"))


def test_what_is_written_can_be_trained_on_and_asked(texts: Path, called: Any) -> None:
    code, out, _ = called(
        "corpus", "study", texts.name, "miners=[glossary]", "forms=3", "--out", "made", "--json"
    )
    assert code == 0
    assert json.loads(out)["facts"] == 150
    reading, questions = (
        [json.loads(line) for line in (texts.parent / "made" / name).read_text().splitlines()]
        for name in ("reading.jsonl", "questions.jsonl")
    )
    assert all("They grind salt." in row["text"] for row in reading)
    assert all(row["prompt"] and row["completion"] for row in questions)
    assert len(questions) % 3 == 0
    assert read_items(texts.parent / "made" / "recall.jsonl")


def test_a_text_may_be_a_source_as_a_recipe_has_it(texts: Path, called: Any) -> None:
    source = "{path: mills.jsonl, limit: 3}"
    code, out, _ = called("corpus", "study", source, "miners=[glossary]", "--inspect", "--json")
    assert code == 0
    assert json.loads(out)["items"] == {"glossary": {"define": 15, "name": 15}}


def test_an_ontology_that_is_not_there_is_told_before_anything_is_read(texts: Path, called: Any) -> None:
    code, _, err = called("corpus", "study", texts.name, "ontologies=[nothing.obo]", "--out", "made")
    assert code != 0
    assert f"no such file or folder: {texts.parent / 'nothing.obo'}" in err
    assert "documents in" not in err
    assert not (texts.parent / "made").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mills.jsonl"], "give either --inspect or --out DIR"),
        (["mills.jsonl", "--inspect", "--out", "made"], "give either --inspect or --out DIR"),
        (["miners=[glossary]", "--inspect"], "no text is named"),
        (["mills.jsonl", "miners=[riddles]", "--inspect"], "miners.0: unknown value `riddles`"),
        (["mills.jsonl", "miners=[]", "--inspect"], "miners: needs at least 1 item(s)"),
        (["mills.jsonl", "miner=[glossary]", "--inspect"], "miner: no such setting"),
        (["{path: mills.jsonl, limit: 0}", "--inspect"], "SOURCE.limit: "),
        (["mills.jsonl", "language=xx", "--inspect"], "language: no wordings in the language 'xx'"),
        (["mills.jsonl", "miners=[order,order]", "--inspect"], "named twice: order"),
        (["mills.jsonl", "write={tokens: 9}", "--inspect"], "a model writes only in a recipe"),
    ],
)
def test_mistakes_have_one_message(texts: Path, called: Any, words: list[str], message: str) -> None:
    code, _, err = called("corpus", "study", *words)
    assert code == 2
    assert message in err
    assert err.count("error") == 1
    assert "problems" not in err
