"""What would never end is refused at once: bombs in YAML, too many processes, sizes that nothing has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cpt.cli import launch
from cpt.recipe.document import DEEPEST, MOST_CHARACTERS, MOST_VALUES

if TYPE_CHECKING:
    from conftest import Command

ALIASES = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))

BOMBS = {
    "aliases": (ALIASES, f"more than {MOST_VALUES:,} values"),
    "brackets": ("a: " + "[" * 100_000, f"nested more than {DEEPEST} levels deep"),
    "braces": ("a: " + "{b: " * 5000, f"nested more than {DEEPEST} levels deep"),
    "closed brackets": (f"a: {'[' * 60}{']' * 60}", f"nested more than {DEEPEST} levels deep"),
    "indentation": ("".join(f"{' ' * n}a:\n" for n in range(80)), f"nested more than {DEEPEST} levels deep"),
    "an alias in itself": ("a: &a [1, *a]", "unknown key `a`"),
    "two in each other": ("a: &a {b: &b [*a, *a]}", "unknown key `a`"),
    "a large file": ("a: 1\n" * (MOST_CHARACTERS // 4), f"a recipe has at most {MOST_CHARACTERS:,}"),
    "a larger file": ("# comment\n" * MOST_CHARACTERS, f"a recipe has at most {MOST_CHARACTERS:,}"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("words", [["validate"], ["plan"], ["run"], ["merge", "--out", "merged"]])
def test_yaml_that_is_too_much(cpt: Command, words: list[str], text: str, message: str) -> None:
    Path("bomb.yaml").write_text(text)
    code, _, said = cpt(words[0], "bomb.yaml", *words[1:])
    assert code == 2
    assert "bomb.yaml" in said
    assert message in said
    assert len(said) < 500
    assert not Path("merged").exists()


def test_a_bomb_in_an_override(cpt: Command) -> None:
    code, _, said = cpt("validate", "recipe.yaml", f"pretrain.gates={'[' * 100}{']' * 100}")
    assert code == 2
    assert f"nested more than {DEEPEST} levels deep" in said


def test_a_recipe_that_is_no_file(cpt: Command) -> None:
    os.mkfifo("pipe.yaml")
    for name in ("/dev/zero", "pipe.yaml"):
        for words in (["validate", name], ["merge", name, "--out", "merged"]):
            code, _, said = cpt(*words)
            assert code == 2
            assert name in said


@pytest.mark.parametrize(
    "options",
    [
        ["--num_processes", "999999"],
        ["--num_processes", "999999", "--num_machines", "8", "--machine_rank", "0"],
    ],
)
@pytest.mark.parametrize("words", [["plan"], ["run"], ["continue", "--tokens", "10"]])
def test_more_processes_than_a_machine_can_hold(
    cpt: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], options: list[str]
) -> None:
    monkeypatch.setattr("accelerate.commands.launch.launch_command", lambda _: pytest.fail("started"))
    code, _, said = cpt(words[0], "recipe.yaml", *words[1:], "--", *options)
    assert code == 2
    assert "processes on a machine with" in said


def test_as_many_processes_as_processors_are_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 512)
    launch._require_few(512, 1)
    launch._require_few(4096, 8)


def test_the_launchers_mistakes_are_one_message(cpt: Command) -> None:
    code, _, said = cpt("run", "recipe.yaml", "--", "--num_processes", "many")
    assert code == 2
    assert said.startswith("error: accelerate launch: argument --num_processes")
    assert len(said.splitlines()) == 2


def test_an_empty_name_of_the_folder_of_runs(cpt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["run", "recipe.yaml"], ["ls"], ["plan", "recipe.yaml"]):
        for empty in ("", " "):
            code, _, said = cpt(*words, "--runs", empty)
            assert code == 2
            assert "the folder's name is empty" in said
    assert not Path("run.json").exists()
    assert not Path("medical").exists()
    assert cpt("ls", "--runs", ".").code == 0


def test_places_that_cannot_be_written_to(cpt: Command) -> None:
    for name in ("medical", "second"):
        assert cpt("run", "recipe.yaml", f"name={name}").code == 0
    for words in (
        ["init", "/proc/x.yaml"],
        ["continue", "recipe.yaml", "--tokens", "10", "--out", "/proc/x.yaml"],
        ["run", "recipe.yaml", "--runs", "/proc/x"],
    ):
        code, _, said = cpt(*words)
        assert code == 2, words
        assert "/proc/x" in said
        assert ("--runs DIR" in said) == ("--runs" in words)
        assert "mistake in cpt" not in said
