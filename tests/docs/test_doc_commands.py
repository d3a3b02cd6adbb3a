"""Every command in the documentation exists, with its options, arguments and recipe keys."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from doc_pages import PAGES, ROOT, blocks, script, spans
from typer.core import TyperGroup

from cpt.cli.commands import COMMANDS, load

RECIPE_COMMANDS = ("run", "plan", "validate", "estimate", "continue", "sweep", "corpus build")
"""Commands whose words KEY=VALUE are recipe keys."""

_COMMENT = re.compile(r"(^|\s)#.*")
_SEPARATORS = {";", "|", "&", "&&", "||"}
_KEYWORDS = {"for", "do", "done", "then", "if", "fi"}


def statements(text: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell script, without comments and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(_COMMENT.sub("", line), posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in _SEPARATORS:
                while words and words[0] in _KEYWORDS:
                    words = words[1:]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def mistake(words: list[str], in_prose: bool = False) -> str | None:
    """Return what is wrong with a `cpt` command, or None. Nothing is run.

    Args:
        words: Words without `cpt`. The placeholder N stands for a number, `...` for more words.
        in_prose: True if the command stands within a sentence, where arguments may be left out.
    """
    words = [re.sub(r"^(N|\$\w+)$", "1", word) for word in words if word not in ("...", "…")]
    if words[:1] in (["--help"], ["--version"], ["--install-completion"]):
        return None
    if not words or words[0] not in COMMANDS:
        return f"there is no command {' '.join(words[:1])}"
    command, name, rest = _loaded(words[0]), words[0], words[1:]
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands and name == "merge":
            break  # `cpt merge plan.yaml`
        if rest[0] not in command.commands:
            return f"{name} has no command {rest[0]}"
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
    if isinstance(command, TyperGroup) and name != "merge":
        return None if in_prose else f"{name} needs a command"
    try:
        command.make_context(name, list(rest))
    except Exception as error:
        if in_prose and type(error).__name__ == "MissingParameter":
            return None
        return f"{name}: {error}"
    return next((f"there is no recipe key {key}" for key in _unknown_keys(name, rest)), None)


@cache
def _loaded(name: str) -> Any:
    return load(name)


def _unknown_keys(name: str, words: list[str]) -> Iterator[str]:
    """Yield the recipe keys among a command's words that do not exist; list items go by their numbers."""
    if name in RECIPE_COMMANDS:
        for word in words:
            if re.fullmatch(r"[a-z][\w.-]*=.+", word, re.DOTALL):
                key = re.sub(r"\.\d+(?=\.|$)", "", word.split("=")[0])
                if name == "continue":
                    key = re.sub(
                        "^continued", "pretrain", key
                    )  # the name that `cpt continue` gives its stage
                if key not in _keys():
                    yield key


@cache
def _keys() -> frozenset[str]:
    """Return all keys as overrides name them: `name`, `pretrain.schedule.peak`."""
    paths = (re.sub(r"\[[^]]*\]", "", key.path) for key in script("recipe_keys").all_keys())
    return frozenset(path.removeprefix("recipe.") for path in paths)


def mistakes_of(words: list[str], in_prose: bool = False) -> str | None:
    """Return what is wrong with a command of any program that the documentation names."""
    if words[0] == "cpt":
        return mistake(words[1:], in_prose)
    if words[0] == "make" and len(words) > 1 and re.fullmatch(r"[\w-]+", words[1]):
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return None if words[1] in targets else f"there is no target {words[1]}"
    if words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
        return None if (ROOT / words[1]).is_file() else f"there is no {words[1]}"
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = {extra for word in words for extra in re.findall(r"^cpt-workbench\[([\w,]+)\]", word)}
        unknown = {extra for each in named for extra in each.split(",")} - set(extras)
        return f"there is no extra {unknown}" if unknown else None
    return None


@pytest.mark.parametrize("block", blocks("sh", "bash"), ids=str)
def test_commands_of_a_block_parse(block: Any) -> None:
    wrong = {" ".join(words): mistakes_of(words) for words in statements(block.text)}
    assert {line: found for line, found in wrong.items() if found} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_sentences_parse(page: Any) -> None:
    wrong = {}
    for span in spans(page):
        if re.match(r"(cpt|make|python|pip) [a-z-]", text := span.replace("\n", " ")):
            for words in statements(text):
                wrong[span] = mistakes_of(words, in_prose=True)
    assert {span: found for span, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cpt nothing", "no command nothing"),
        ("cpt corpus nothing", "no command nothing"),
        ("cpt corpus", "needs a command"),
        ("cpt plan my.yaml --nothing", "--nothing"),
        ("cpt plan", "Missing"),
        ("cpt plan my.yaml pretrain.token=1", "no recipe key pretrain.token"),
        ("cpt estimate my.yaml --gpus many", "valid integer"),
        ("cpt diff A B C", "unexpected"),
        ("make nothing", "no target"),
        ("python benchmarks/nothing.py", "there is no"),
        ("pip install 'cpt-workbench[nothing]'", "no extra"),
    ],
)
def test_mistakes_are_found(line: str, words: str) -> None:
    ((found),) = [mistakes_of(each) for each in statements(line)]
    assert found is not None
    assert words in found


def test_statements_are_those_of_a_shell() -> None:
    script = "for r in 0 1; do cpt run a.yaml name=r-$r; done  # twice\ncpt diff A \\\n  'B C' > out\n"
    expected = [
        ["r", "in", "0", "1"],
        ["cpt", "run", "a.yaml", "name=r-$r"],
        ["cpt", "diff", "A", "B C", ">", "out"],
    ]
    assert list(statements(script)) == expected


def headers() -> Iterator[tuple[str, str]]:
    """Yield name and text of the commands in the header of each packaged recipe, stages by their kinds."""
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        whole = recipe.read_text(encoding="utf-8")
        comments = re.match(r"(#.*\n)+", whole)
        if comments is not None:
            for kind, stage in re.findall(r"^  - (\w+):\n      name: ([\w-]+)$", whole, re.MULTILINE):
                comments = re.match(r"(#.*\n)+", whole := re.sub(rf"(?<= ){stage}\.", f"{kind}.", whole))
                assert comments is not None
            text = re.sub(r"^# {0,3}", "", comments[0], flags=re.MULTILINE)
            commands = re.findall(r"^ *cpt (?:.*\\\n)*.*$", text, re.MULTILINE)
            yield recipe.name, "\n".join(re.sub(r"(?<=\S) {3,}(?=[^\\ ]).*$", "", each) for each in commands)


@pytest.mark.parametrize(("name", "commands"), [*headers()], ids=[name for name, _ in headers()])
def test_commands_in_the_header_of_a_recipe_parse(name: str, commands: str) -> None:
    found = list(statements(commands))
    wrong = {" ".join(words): mistakes_of(words) for words in found}
    assert found
    assert {line: mistake for line, mistake in wrong.items() if mistake} == {}


def examples(command: Any, name: str) -> Iterator[str]:
    """Yield the examples in the help of a command, and of the commands below it."""
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        line = re.sub(r"\s+", " ", paragraph)
        if (found := re.search(r"^Examples?[^:]*: (cpt .*)", line)) is not None:
            yield found[1]
    for inner, each in getattr(command, "commands", {}).items():
        yield from examples(each, f"{name} {inner}")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_parse(name: str) -> None:
    lines = list(examples(_loaded(name), name))
    wrong = {line: mistakes_of(words) for line in lines for words in statements(line)}
    assert {line: mistake for line, mistake in wrong.items() if mistake} == {}
