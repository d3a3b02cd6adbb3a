"""kill -9 at random moments in a whole run and in every command that writes, until it has finished.

A command that was killed is started again, as often as it takes. What it made must then be equal, to the bit,
to what an undisturbed one made, and nothing else may be left.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.forking import run
from faults.workspace import copy_of

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "run": ("run", "recipe.yaml", "--runs", "out"),
    "extend": ("tokenizer", "extend", "model", "--text", "domain.jsonl", "--tokens", "20", "--out", "out"),
    "train": ("tokenizer", "train", "model", "--text", "domain.jsonl", "--tokens", "290", "--out", "out"),
    "merge": ("merge", "merge.yaml", "--out", "out"),
    "average": ("merge", "average", "model", "second", "--kind", "lawa", "--last", "2", "--out", "out"),
    "extract": ("merge", "extract", "second", "--base", "model", "--rank", "4", "--out", "out"),
    "search": (
        *("merge", "search", "--base", "model", "--add", "second", "--text", "domain=domain.jsonl"),
        *("--text", "general=general.jsonl", "--points", "4", "--window", "64", "--out", "out"),
    ),
    "evaluate": (
        *("eval", "run", "model", "--suite", "toy.yaml:quick", "--data", "data"),
        "--offline",
        "--out",
        "out",
    ),
    "dedup": ("corpus", "dedup", "--text", "domain.jsonl", "--heldout", "general.jsonl", "--out", "out"),
    "select": (
        "corpus",
        "select",
        "--text",
        "domain.jsonl",
        "--model",
        "model",
        "--out",
        "out",
        "tokens=500",
    ),
    "prune": ("tokenizer", "prune", "model", "--text", "domain.jsonl", "--tokens", "9", "--out", "out"),
    "replace": ("tokenizer", "replace", "model", "second", "--text", "domain.jsonl", "--out", "out"),
}
_VOLATILE = (
    *("run.json", "artifact.json", "checksums.json", ".verified.json", "summary.json", ".html"),
    *("report.json", ".log", ".lock"),
)
"""Ends of the names of files with times in them, or with sums of such files."""
_TIMES = ("seconds", "tokens_per_second", "when")
MOMENTS = 0.9
"""Share of an undisturbed command's time within which it is killed."""

KILLS_OF_ONE = 10
"""Kills after which a command is left alone: beside other work it may never get as far as undisturbed."""


@dataclass
class Killed:
    """What became of one command: kills, finished repeats, differing files and things left over."""

    kills: int = 0
    finished: int = 0
    differing: int = 0
    left_over: int = 0


def kills(
    workspace: Path, root: Path, count: int, seed: int, say: Callable[[str], None] = print
) -> dict[str, dict[str, int]]:
    """Kill commands so many times in all, the same number of times each; the whole run half of all times.

    Args:
        workspace: one in which everything is right.
        root: folder for copies of it.
    """
    draw, outcomes = random.Random(seed), {}
    for name, words in COMMANDS.items():
        share = count // 2 if name == "run" else max(1, count // 2 // (len(COMMANDS) - 1))
        outcomes[name] = vars(_killed(words, workspace, root / f"kills-{name}", share, draw, say))
    return outcomes


def _killed(
    words: tuple[str, ...],
    workspace: Path,
    root: Path,
    count: int,
    draw: random.Random,
    say: Callable[[str], None],
) -> Killed:
    root.mkdir()
    folder = copy_of(workspace, root / "work")  # one path for all: some results name the models they are of
    ended = run(words, folder, 600)
    assert ended.code == 0, (words, ended.err)
    expected, outcome = _made(folder), Killed()
    names = set(_names(folder))
    shutil.rmtree(folder)
    while outcome.kills < count:
        copy_of(workspace, folder)
        for attempt in range(KILLS_OF_ONE + 1):
            killed = outcome.kills < count and attempt < KILLS_OF_ONE
            moment = draw.uniform(0, MOMENTS * ended.seconds) if killed else None
            again = run(words, folder, 600, moment)
            outcome.kills += again.code == -9
            if again.code != -9:
                break
        # killed between its result and its end, a command finds that the result is there
        if again.code != 0 and "out exists already" not in again.err:
            outcome.differing += 1
            say(f"{words}: exit code {again.code} after kills: {again.err[-500:]}")
        outcome.finished += 1
        made = _made(folder)
        for name in sorted(expected.keys() | made.keys()):
            if expected.get(name) != made.get(name):
                outcome.differing += 1
                say(f"{words}: {name} differs")
        for name in sorted(set(_names(folder)) - names):
            outcome.left_over += 1
            say(f"{words}: {name} was left")
        shutil.rmtree(folder)
    shutil.rmtree(root)
    return outcome


def _names(folder: Path) -> list[str]:
    """Everything beside the cache."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] != "cache"
    ]


def _made(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that must be equal."""
    return {
        name: hashlib.sha256(_content(folder / name)).hexdigest()
        for name in _names(folder)
        if name.startswith("out") and (folder / name).is_file() and not name.endswith(_VOLATILE)
    }


def _content(file: Path) -> bytes:
    """Return a file's bytes; of JSON lines and an evaluation's results, what they say but for times."""
    if file.suffix != ".jsonl" and file.name != "results.json":
        return file.read_bytes()
    text = file.read_text()
    rows = [json.loads(text)] if file.suffix == ".json" else list(map(json.loads, text.splitlines()))
    return json.dumps([{key: row[key] for key in row if key not in _TIMES} for row in rows]).encode()
