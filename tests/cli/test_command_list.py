"""The list of commands: each loads, the list says what its help says, and the help imports little."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cpt.cli.commands import COMMANDS, load
from cpt.cli.options import run_names


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_help_of_the_list(name: str) -> None:
    command = load(name)
    first = re.sub(r"\s+", " ", (command.help or "").split("\n\n")[0]).strip()
    assert command.name == name
    assert first == COMMANDS[name].help


def test_the_help_imports_no_library() -> None:
    """`cpt --help` took 1.5 s of a processor when it imported what its commands need."""
    heavy = ("torch", "transformers", "pydantic", "numpy", "pyarrow", "huggingface_hub")
    code = "import sys; from cpt.cli import main; main(['--help'])"
    code += f"; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name, place in COMMANDS.items():
        assert re.search(rf"\b{name}\b", done.stdout)
        assert place.help.split()[0] in done.stdout


def test_a_wrong_name_gets_a_near_one(called: Any) -> None:
    done = called("statsu")
    assert done.code == 2
    assert "Did you mean 'status'?" in done.err


@pytest.mark.parametrize(("words", "expected"), [("cpt st", "status"), ("cpt corpus sel", "select")])
def test_names_are_completed(words: str, expected: str) -> None:
    environment = {
        "_CPT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-m", "cpt"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**environment, "PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.split() == [expected]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cpt rep", ["report"]),
        ("cpt report fi", ["first"]),
        ("cpt diff first se", ["second"]),
        ("cpt publish ", ["first", "second"]),
        ("cpt init --template medical-", ["medical-study"]),
    ],
)
def test_a_shell_completes_commands_runs_and_templates(
    words: str, expected: list[str], tmp_path: Path
) -> None:
    for name in ("second", "first", "runs/nested"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("first", "second"):
        (tmp_path / "runs" / name / "run.json").touch()
    asked = {"_CPT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", "from cpt.__main__ import main; main()"],
        cwd=tmp_path, env=os.environ | asked, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == expected


def test_run_names_follow_the_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPT_RUNS", raising=False)
    for folder in ("given/a", "environment/b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").touch()

    def completed(runs: str | None) -> list[str]:
        context = typer.Context(load("report"))
        context.params["runs"] = runs
        return run_names(context, "")

    assert completed(None) == []  # there is no folder `runs`
    assert completed("given") == ["a"]
    monkeypatch.setenv("CPT_RUNS", "environment")
    assert (completed(None), completed("given")) == (["b"], ["a"])
