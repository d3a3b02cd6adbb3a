"""Commands over damaged workspaces, what each must do, and what is a fault."""

from __future__ import annotations

import itertools
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults import damages
from faults.damages import ESCAPES, Damage, replaced
from faults.forking import Ended, run
from faults.workspace import copy_of

HANG = 10.0
"""Seconds on an idle machine after which a command hangs; callers scale it by their load."""
MEMORY = 3 * 2**30
"""Bytes that no command over the tiny workspace may take: torch and transformers alone take 0.7 GB."""


@dataclass(frozen=True)
class Case:
    """One command over one damaged workspace.

    Attributes:
        name: unique.
        words: arguments of the command.
        damage: what is done to the workspace first.
        refused: True where the command must refuse, False where it must succeed, None where both are right.
        prints: parts of its output that must be there.
    """

    name: str
    words: tuple[str, ...]
    damage: Damage = field(repr=False)
    refused: bool | None = None
    prints: tuple[str, ...] = ()


def cases(seed: int) -> list[Case]:
    """Return all cases; those with drawn values by a seed."""
    groups = (_models(), _texts(), _recipes(), _runs(), _overrides(random.Random(seed)), _arguments())
    return list(itertools.chain(*groups))


def faults(case: Case, finished: Path, folder: Path, patience: float = 1.0) -> list[str]:
    """Run a case in a fresh copy of a finished workspace and return what is wrong with how it ended.

    Args:
        folder: where the copy is made; it is removed afterwards.
        patience: factor on the time after which a command hangs.
    """
    copy_of(finished, folder)
    try:
        case.damage(folder)
        before = _files(folder)
        ended = run(case.words, folder, HANG * patience)
        return [*_wrong(case, ended), *_left_over(case, ended, folder, before)]
    finally:
        shutil.rmtree(folder)


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]|\x1b")


def _wrong(case: Case, ended: Ended) -> Iterator[str]:
    text = ended.out + ended.err
    if ended.code is None:
        yield f"hung for {ended.seconds:.0f} s"
    elif ended.code < 0:
        yield f"ended by signal {-ended.code}"
    elif ended.code not in (0, 1, 2, 3, 4):
        yield f"exit code {ended.code}"
    if "Traceback (most recent call last)" in text:
        yield f"traceback: {text[-300:]!r}"
    if "mistake in cpt" in text:
        yield f"unexpected: {text[-300:]!r}"
    if found := _CONTROL.search(text):
        yield f"control character {found[0]!r} in {text[max(0, found.start() - 60) : found.end() + 60]!r}"
    if ended.peak > MEMORY:
        yield f"took {ended.peak / 2**30:.1f} GiB"
    if case.refused and ended.code == 0:
        yield "succeeded"
    if case.refused is False and ended.code not in (0, None):
        yield f"refused: {ended.err[-300:]!r}"
    if ended.code in (1, 2) and not ended.err.strip() and "--json" not in case.words:
        yield "refused without a word"
    yield from (f"does not say {part!r}: {text[-300:]!r}" for part in case.prints if part not in text)


def _left_over(case: Case, ended: Ended, folder: Path, before: set[str]) -> Iterator[str]:
    """What a refused command left behind: its output, or folders and files set aside."""
    new = {name for name in _files(folder) - before if not name.startswith("cache")}
    if (folder / "owned").exists() or (folder.parent / "outside").exists():
        yield "code or a path from data was followed"
    if ended.code in (0, None):
        return
    written = {name for name in new if name.split("/")[0] == "out"}
    if written and "run" not in case.words[:1]:
        yield f"left {sorted(written)[:3]}"
    hidden = {name for name in new if any(part.startswith(".") for part in name.split("/")[:1])}
    if hidden:
        yield f"left {sorted(hidden)[:3]}"


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_symlink()}


_READ_WEIGHTS = {
    "run": ("run", "short.yaml", "--runs", "fresh"),
    "text": ("eval", "text", "model", "--text", "general.jsonl", "--window", "64"),
    "extend": ("tokenizer", "extend", "model", "--text", "domain.jsonl", "--tokens", "9", "--out", "out"),
    "merge": ("merge", "merge.yaml", "--out", "out"),
}
_READ_CONFIG = {
    "report": ("tokenizer", "report", "model", "--text", "general.jsonl"),
    "estimate": ("estimate", "short.yaml"),
    "validate": ("validate", "short.yaml"),
}


def _models() -> Iterator[Case]:
    for name, damage, certain in damages.model_damages():
        for command, words in _READ_WEIGHTS.items():
            # the merge keeps the base's values, and reads neither templates nor settings of answers
            refused = True if certain else None
            yield Case(f"model {name}: {command}", words, damage, refused)
        for command, words in _READ_CONFIG.items():
            yield Case(f"model {name}: {command}", words, damage)
    for name, damage, certain in damages.model_damages("second"):
        yield Case(f"second {name}: merge", _READ_WEIGHTS["merge"], damage, True if certain else None)


def _texts() -> Iterator[Case]:
    for name, file, damage, certain in damages.text_damages():
        refused = True if certain else None
        recipe = replaced("short.yaml", _with_source(file))
        for command, words in {
            "report": ("tokenizer", "report", "model", "--text", file),
            "train": ("tokenizer", "train", "model", "--text", file, "--tokens", "280", "--out", "out"),
            "extend": ("tokenizer", "extend", "model", "--text", file, "--tokens", "9", "--out", "out"),
            "text": ("eval", "text", "model", "--text", file, "--window", "64"),
            "contamination": ("eval", "contamination", "--text", file, "--suite", "medical:smoke"),
        }.items():
            # commands without a recipe read files of unknown names as plain text
            may_pass = command == "contamination" or name == "unknown kind"
            yield Case(f"text {name}: {command}", words, damage, None if may_pass else refused)
        for command, words in {
            "run": ("run", "short.yaml", "--runs", "fresh"),
            "plan": ("plan", "short.yaml", "--runs", "fresh"),
        }.items():
            yield Case(
                f"text {name}: {command}", words, _both(damage, recipe), refused if command == "run" else None
            )


def _with_source(file: str) -> str:
    from faults.workspace import SHORT

    quoted = '"' + file.encode("unicode_escape").decode() + '"'
    return SHORT.replace("domain.jsonl", quoted)


def _both(first: Damage, second: Damage) -> Damage:
    def damage(folder: Path) -> None:
        first(folder)
        second(folder)

    return damage


def _recipes() -> Iterator[Case]:
    for name, content in damages.recipe_damages():
        damage = replaced("bad.yaml", content)
        for words in (
            ("validate", "bad.yaml"),
            ("plan", "bad.yaml", "--runs", "fresh"),
            ("run", "bad.yaml", "--runs", "fresh"),
            ("estimate", "bad.yaml"),
            ("merge", "bad.yaml", "--out", "out"),
        ):
            yield Case(f"recipe {name}: {words[0]}", words, damage, True)


def _runs() -> Iterator[Case]:
    for name, damage in damages.run_damages():
        yield Case(f"run {name}: ls", ("ls",), damage, False, ("short",))
        yield Case(f"run {name}: healthy status", ("status", "short"), damage, False)
        for words in (
            ("status", "tiny"),
            ("report", "tiny"),
            ("show", "tiny"),
            ("show", "tiny", "pretrain"),
            ("diff", "tiny", "short"),
            ("plan", "recipe.yaml"),
            ("report", "tiny", "short", "--out", "out.html"),
            ("ls", "--json"),
        ):
            yield Case(f"run {name}: {' '.join(words)}", words, damage)


_VALUES: Sequence[str] = (
    *("", " ", "null", "true", "-1", "0", "1", "1e-320", "1e400", "-1e400", ".nan", ".inf", "1000000000"),
    *(
        "9" * 40,
        "0x10",
        "1_000",
        "one",
        "[]",
        "{}",
        "[1, 2]",
        "{a: 1}",
        "[[[[[]]]]]",
        "*a",
        "&a x",
        "!!int x",
    ),
    *("'", '"', "{", "../../etc", "/dev/zero", "\x1b[31m", "\u202e", "a" * 10_000, "{from: pretrain}"),
)
_KEYS: Sequence[str] = (
    *("name", "base", "seed", "stages", "corpus", "corpus.domain", "corpus.domain.0.path", "corpus.heldout"),
    *("corpus.replay", "corpus.replay.self_generated.tokens", "corpus.sequence_length", "corpus.general"),
    *("vocabulary.extend.tokens", "vocabulary.extend", "vocabulary.initialise", "pretrain.tokens"),
    *("pretrain.batch_sequences", "pretrain.replay", "pretrain.epochs", "pretrain.schedule.peak"),
    *("pretrain.schedule.floor", "pretrain.schedule", "pretrain.checkpoint.every", "pretrain.monitor.every"),
    *(
        "pretrain.monitor.window",
        "pretrain.monitor",
        "pretrain.gates",
        "pretrain.optimizer",
        "pretrain.trainable",
    ),
    *("merge.models", "merge.models.0.weight", "merge.models.0.from", "merge.method", "merge.search"),
    *(
        "evaluate.window",
        "evaluate.tasks",
        "evaluate.confidence",
        "evaluate.suites",
        "report.title",
        "nothing",
    ),
)


def _overrides(draw: random.Random) -> Iterator[Case]:
    """Every key with a sixth of the values by `validate`, and some by `plan` and `estimate`."""
    pairs = draw.sample(list(itertools.product(_KEYS, range(len(_VALUES)))), len(_KEYS) * len(_VALUES) // 4)
    for key, number in pairs:
        words = (draw.choice(("validate", "validate", "plan", "estimate")), "recipe.yaml")
        yield Case(
            f"override {key} {number}: {words[0]}", (*words, f"{key}={_VALUES[number]}"), lambda folder: None
        )


def _arguments() -> Iterator[Case]:
    nothing: Damage = lambda folder: None  # noqa: E731
    hostile = (
        ESCAPES,
        "../../../etc",
        "/dev/zero",
        "a" * 5000,
        "",
        " ",
        "-",
        "--",
        "%s%n",
        "$(touch owned)",
        "~",
    )
    for number, word in enumerate(hostile):
        for words in (
            ("run", word),
            ("run", "short.yaml", "--runs", word + "/x"),
            ("validate", word),
            ("init", word),
            ("status", word),
            ("report", word),
            ("show", "tiny", word),
            ("diff", "tiny", word),
            ("merge", word, "--out", "out"),
            ("merge", "--base", "model", "--add", word, "--out", "out"),
            ("eval", "text", word, "--text", "general.jsonl"),
            ("eval", "run", "model", "--suite", word, "--out", "out"),
            ("tokenizer", "report", word, "--text", "general.jsonl"),
            ("tokenizer", "extend", "model", "--text", "domain.jsonl", "--tokens", word, "--out", "out"),
            ("schedule", word),
            ("estimate", word),
            (word,),
        ):
            yield Case(
                f"argument {number}: {' '.join(words[:2])[:40]} {words.index(word) if word in words else ''}",
                words,
                nothing,
            )
    extend = ("tokenizer", "extend", "model", "--text", "domain.jsonl", "--tokens", "9", "--out", "out")
    for rows in ("999999999999", "-5", "1e3"):
        yield Case(f"pad {rows}", (*extend, "--pad", rows), nothing, True)
    launched = ("run", "short.yaml", "--runs", "fresh", "--", "--num_processes", "999999")
    yield Case("processes", launched, nothing, True)
    for begin, end in ((3, 1), (0, 0), (1, 99), (-2, 1)):
        plan = (
            "merge_method: passthrough\ndtype: float32\nslices:\n"
            f"  - sources: [{{model: model, layer_range: [{begin}, {end}]}}]\n"
        )
        words = ("merge", "layers.yaml", "--out", "out")
        yield Case(f"layers {begin} to {end}", words, replaced("layers.yaml", plan), True)
