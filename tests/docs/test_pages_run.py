"""The commands with which people begin run as the pages have them: on a tiny model, with small numbers."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks
from faults.forking import run
from faults.workspace import copy_of
from test_doc_commands import statements
from tiny import clinical_texts, write_jsonl

ENDED = (0, 3, 4)
"""Exit codes of a command that did its work: done, a limit is broken, a limit is not shown."""

NOT_RUN = {
    "--install-completion": "writes to files of the shell that runs it",
    "run recipes/quickstart.yaml": "the real model: `make quickstart`",
    "watch": "serves a page until it is stopped",
    "sweep": "nine runs; tests/sweep",
    "tokenizer compare": "trains with every method; tests/cli/test_tokenizer_compare.py",
    "eval": "the data of published suites; tests/evals",
    "law": "needs a finished sweep; tests/laws",
}
ADDED = {
    "docs/start.md": {
        "init": ["--base", "model", "--replay", "general.jsonl"],
        "run my.yaml": ["pretrain.tokens=1000", "merge.search.tokens=500", "evaluate.tasks.0.items=4"],
        "publish": ["--force"],  # whatever the limits say
    },
    "README.md": {"publish": ["--force"]},
}
"""Words added to a command of a page, by how it begins."""

SMALL = {"3": "0.01", "2000": "8", "pretrain.tokens=50_000": "pretrain.tokens=500"}
"""Hours and tokens in place of those of the pages."""

NAMED = {"RECIPE": "recipe.yaml", "BASE": "model", "FILE": "domain.jsonl", "ID": "mit", "B": "model"}
ADDED_MODELS = {"domain=M:0.8": "domain=second:0.8", "instruct=I:1.0": "instruct=model:1.0"}


def commands(page: str) -> Iterator[str]:
    """Yield the `cpt` commands of the `sh` blocks of a page, in their order, without `cpt`."""
    for block in blocks("sh"):
        if block.page == ROOT / page:
            yield from (" ".join(words[1:]) for words in statements(block.text) if words[0] == "cpt")


def begins(command: str, beginning: str) -> bool:
    return f"{command} ".startswith(f"{beginning} ")


def made_small(page: str, command: str, numbers: Iterator[int], runs: Iterator[str]) -> list[str]:
    """Return the words of a command with files of the workspace and small numbers."""
    replaced = SMALL | NAMED | ADDED_MODELS
    words = []
    for word in command.split():
        word = f"made-{next(numbers)}" if word == "DIR" else replaced.get(word, word)
        word = "general.jsonl" if words[-1:] == ["--general"] else word
        words.append(next(runs) if word == "RUN" else word)
    more = [each for beginning, each in ADDED[page].items() if begins(command, beginning)]
    return [*words, *itertools.chain.from_iterable(more)]


def notes(count: int) -> Iterator[str]:
    """Yield documents of 60 words in random order, of which none is a near-copy of another."""
    words = " ".join(clinical_texts()).split()
    draw = random.Random(17)
    return (" ".join(draw.choices(words, k=60)) for _ in range(count))


@pytest.fixture
def workspace(finished_workspace: Path, tmp_path: Path) -> Path:
    """A copy of the finished workspace, with the files that the pages name."""
    folder = copy_of(finished_workspace, tmp_path / "workspace")
    write_jsonl(folder / "data.jsonl", list(notes(120)))
    (folder / "reports").mkdir()
    for number, text in enumerate(notes(100)):
        (folder / f"reports/{number}.txt").write_text(text)
    return folder


@pytest.mark.parametrize("page", ["docs/start.md", "README.md"])
def test_the_commands_of_a_page_run_in_their_order(page: str, workspace: Path) -> None:
    if page == "README.md":
        shutil.copy(workspace / "recipe.yaml", workspace / "my.yaml")  # which has run
    found, numbers, runs = list(commands(page)), itertools.count(), itertools.cycle(["tiny", "short"])
    done = 0
    for command in found:
        if any(begins(command, beginning) for beginning in NOT_RUN):
            continue
        words = made_small(page, command, numbers, runs)
        ended = run(words, workspace, 120)
        assert ended.code in ENDED, f"cpt {' '.join(words)}\n{ended.out}\n{ended.err}"
        done += 1
    assert done >= 7
    assert page != "docs/start.md" or list(workspace.glob("runs/my/**/*.html"))
