"""`NAME=FILE`: one spelling wherever a command takes a text."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.cli.options import named_texts, split_name
from cpt.errors import UsageError


def test_a_name_stands_before_the_first_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_name("law=a/b=c.jsonl") == ("law", "a/b=c.jsonl")
    assert split_name("a/b=c.jsonl") == (None, "a/b=c.jsonl")
    assert split_name("wheel:llm==0.1/x") == (None, "wheel:llm==0.1/x")
    (tmp_path / "law=a.jsonl").touch()
    assert split_name("law=a.jsonl") == (None, "law=a.jsonl")


def test_texts_are_called_by_name_or_reference() -> None:
    assert named_texts(["law=a.jsonl", "b.jsonl"]) == {"law": "a.jsonl", "b.jsonl": "b.jsonl"}
    with pytest.raises(UsageError, match="--general law is given twice"):
        named_texts(["law=a", "law=b"], "--general")


def test_every_command_with_texts_takes_names(
    called: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "text.jsonl", clinical_texts())
    write_jsonl(tmp_path / "general.jsonl", varied_texts(40))
    text, other = "domain=text.jsonl", "general=general.jsonl"
    code, out, err = called(
        "tokenizer", "report", tiny_model, "--text", text, "--text", "text.jsonl", "--json"
    )
    assert code == 0, err
    assert [each["text"] for each in json.loads(out)["reports"]] == ["domain", "text.jsonl"]
    for words in (
        ("report", tiny_model, "--text", text, "--heldout", other, "--curve", 5),
        ("extend", tiny_model, "--text", text, "--heldout", other, "--tokens", 5, "--out", "a"),
        ("compare", tiny_model, "--text", text, "--general", other, "--tokens", 5, "--steps", 0,
         "--sequence-length", 64, "--method", "mean", "--out", "b"),
    ):  # fmt: skip
        code, _, err = called("tokenizer", *words)
        assert code == 0, err
    code, out, err = called("eval", "text", tiny_model, "--text", text, "--text", "text.jsonl", "--json")
    assert code == 0, err
    assert [each["text"] for each in json.loads(out)["texts"]] == ["domain", "text.jsonl"]
    start = ("merge", "search", "--base", tiny_model, "--add", tiny_model, "--out", "c")
    code, _, err = called(*start, "--text", "text.jsonl", "--text", other)
    assert (code, "there is no domain text" in err) == (2, True)
