"""`cpt init`: a recipe that fits a text, and the questions that it asks."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tiny import varied_texts, write_jsonl

from cpt.cli import init as module
from cpt.recipe.load import load

TEXTS = 700


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts of some 60,000 tokens for the tiny model."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "notes.jsonl", varied_texts(TEXTS, "the patient has a fever and a cough " * 6))
    write_jsonl(tmp_path / "web.jsonl", varied_texts(40, "general words of every day "))
    return tmp_path


def test_a_recipe_for_a_text_is_valid_and_says_why(here: Path, called: Any, tiny_model: Path) -> None:
    (here / "made").mkdir()
    words = (
        "init",
        "made/notes.yaml",
        "--text",
        "notes.jsonl",
        "--general",
        "web.jsonl",
        "--base",
        tiny_model,
    )
    found = called(*words, "--hours", 0.5, "--json")
    assert found.code == 0, found.err
    facts = found.json
    assert facts["text"]["documents"] == TEXTS
    assert facts["machine"]["tokens_per_second"] > 0
    recipe = load(here / "made/notes.yaml")
    text = (here / "made/notes.yaml").read_text()
    data = YAML(typ="safe").load(text)
    assert [next(iter(stage)) for stage in data["stages"]] == [
        "corpus",
        "pretrain",
        "merge",
        "evaluate",
        "report",
    ]
    assert data["stages"][0]["corpus"]["domain"] == [{"path": "../notes.jsonl"}]
    assert data["stages"][1]["pretrain"]["tokens"] == facts["choices"]["tokens"]
    assert recipe.name == "notes"
    for reason in facts["choices"]["reasons"].values():
        assert reason in text
    again = called(*words)
    assert (again.code, "exists already" in again.err) == (2, True)


def test_choices_follow_the_options(here: Path, called: Any, tiny_model: Path) -> None:
    words = ("init", "--text", "notes.jsonl", "--base", tiny_model, "--force", "--gpu", "h100")
    found = called(*words, "--replay", "web.jsonl", "--suite", "medical", "--language", "fr", "--hours", 3)
    assert found.code == 0, found.err
    assert "Wrote notes.yaml" in found.out
    text = Path("notes.yaml").read_text()
    assert 'replay:\n        - {path: "web.jsonl"}' in text
    assert 'suites: ["medical:quick", "general:quick"]' in text
    assert "The machine: h100" in text
    load(Path("notes.yaml"))


def test_names_with_signs_stay_values(here: Path, called: Any, tiny_model: Path) -> None:
    odd = here / 'a: "b"\n# {x}.jsonl'
    (here / "notes.jsonl").rename(odd)
    found = called("init", "odd.yaml", "--text", odd, "--base", tiny_model, "--gpu", "h100")
    assert found.code == 0, found.err
    assert load(here / "odd.yaml").data["stages"][0]["corpus"]["domain"] == [{"path": odd.name}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text", "no.jsonl"), "no.jsonl"),
        (("--text", "notes.jsonl", "--text-field", "body"), "body"),
        (("--text", "notes.jsonl", "--gpu", "h9"), "no GPU `h9` is known"),
        (("--text", "notes.jsonl", "--suite", "medcal", "--gpu", "h100"), "medcal"),
        (("--text", "notes.jsonl", "--template", "legal"), "Leave one out"),
        (("--text", "notes.jsonl", "--base", "nothing/here", "--gpu", "h100"), "nothing/here"),
    ],
)
def test_mistakes_leave_nothing(
    here: Path, called: Any, tiny_model: Path, words: tuple[str, ...], message: str
) -> None:
    before = sorted(here.iterdir())
    base = () if "--base" in words else ("--base", tiny_model)
    found = called("init", "made.yaml", *words, *base)
    assert found.code != 0
    assert message in found.err
    assert sorted(here.iterdir()) == before


def test_questions_are_asked_in_a_terminal(
    here: Path, called: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["notes.jsonl, web.jsonl", str(tiny_model), 3.0, "H100"])
    monkeypatch.setattr(module.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module.typer, "prompt", lambda *_, **__: next(answers))
    found = called("init", "asked.yaml")
    assert found.code == 0, found.err
    data = load(here / "asked.yaml").data
    assert [each["path"] for each in data["stages"][0]["corpus"]["domain"]] == ["notes.jsonl", "web.jsonl"]
    assert "The machine: h100" in (here / "asked.yaml").read_text()
