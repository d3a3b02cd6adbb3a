"""Load the wordings and patterns of a language from its folder of YAML files, one for each miner.

A file has `wordings`: by task, `trained` and `unseen` lists of prompts. The answer follows a prompt after a
space. Unseen wordings are never trained on; recall probes ask with them alone. Other keys of a file are the
miner's own patterns: connectives, headings, auxiliaries.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cpt.corpus.study.items import Item, chance
from cpt.errors import DataError

FOLDER = Path(__file__).parent / "languages"
UNSEEN = 3
"""Number of wordings of each task that are kept for recall probes."""

WORDINGS = 12
"""Fewest wordings of a task: facts asked in one form are recalled in it alone (Allen-Zhu and Li, 3.1)."""

LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Language:
    """Wordings and patterns of a language.

    Attributes:
        code: Name of its folder (en).
        trained: Wordings that are trained on, by task.
        unseen: Wordings for probes, by task.
        patterns: Other keys of the files, by miner and key.
    """

    code: str
    trained: Mapping[str, tuple[str, ...]]
    unseen: Mapping[str, tuple[str, ...]]
    patterns: Mapping[str, Mapping[str, Any]]

    def of(self, miner: str, key: str) -> Any:
        """Return a pattern of a miner.

        Raises:
            DataError: The language's file of the miner lacks it.
        """
        try:
            return self.patterns[miner][key]
        except KeyError:
            raise DataError(f"{FOLDER / self.code / miner}.yaml has no `{key}`") from None

    def wordings(self, task: str, *, unseen: bool) -> tuple[str, ...]:
        """Return the wordings of a task."""
        found = (self.unseen if unseen else self.trained).get(task)
        if not found:
            raise DataError(f"language {self.code} has no wordings of the task {task}")
        return found


def languages() -> list[str]:
    """Return the codes of the languages that there are files for."""
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


@cache
def load_language(code: str) -> Language:
    """Load a language.

    Raises:
        DataError: There is no such language, a task has too few or equal wordings, or an unseen wording is
            trained on.
    """
    from ruamel.yaml import YAML

    folder = FOLDER / code
    if code not in languages():
        raise DataError(f"no wordings in the language {code!r}: there are {', '.join(languages())}")
    trained: dict[str, tuple[str, ...]] = {}
    unseen: dict[str, tuple[str, ...]] = {}
    patterns: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.yaml")):
        content = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        for task, sides in content.pop("wordings", {}).items():
            key = f"{file.stem}.{task}"
            trained[key], unseen[key] = tuple(sides["trained"]), tuple(sides["unseen"])
            every = (*trained[key], *unseen[key])
            if len(set(every)) < max(WORDINGS, len(every)) or len(unseen[key]) < UNSEEN:
                raise DataError(
                    f"{file}: {task} needs {WORDINGS} different wordings, {UNSEEN} of them unseen"
                )
        patterns[file.stem] = content
    _require_unseen(folder, trained, unseen)
    return Language(code, trained, unseen, patterns)


_NO_LETTERS = re.compile(r"[\W_]+")


def plain_wording(wording: str) -> str:
    """Return a wording without case, punctuation and white space, all its places made equal."""
    parts = string.Formatter().parse(wording)
    return "".join(
        _NO_LETTERS.sub("", literal).casefold() + ("{}" if name is not None else "")
        for literal, name, _, _ in parts
    )


def _require_unseen(
    folder: Path, trained: Mapping[str, Sequence[str]], unseen: Mapping[str, Sequence[str]]
) -> None:
    """Raise DataError if an unseen wording of a task is a trained one of any task, but for punctuation.

    A probe in the words of another task's questions shows what the model has learnt of their form.
    """
    tasks = {plain_wording(wording): task for task, each in trained.items() for wording in each}
    for task, wordings in unseen.items():
        for wording in wordings:
            if (other := tasks.get(plain_wording(wording))) is not None:
                raise DataError(
                    f"{folder}: the unseen wording {wording!r} of {task} is one that {other} is trained on"
                )


@dataclass(frozen=True, slots=True)
class Worded:
    """A question in words.

    Attributes:
        prompt: Text up to the answer, without a space at its end.
        answer: Answer as the prompt asks for it: a text, or the letter of an option.
    """

    prompt: str
    answer: str


_SPACES = re.compile(r"[^\S\n]+")
_LETTERED = 0.2
"""Share of choices whose answer is a letter: small models hardly read letters, exams ask for them."""


def worded(item: Item, wording: str, key: object) -> Worded:
    """Return an item in one wording.

    Args:
        key: Key of the order of options and of their form.
    """
    fields = dict(item.fields)
    answer = item.answer
    if "{options}" in wording:
        rolled = chance("options", key)
        options = list(item.options)
        rolled.shuffle(options)
        lettered = rolled.random() < _LETTERED
        marks = [f"{LETTERS[at]}. " if lettered else "- " for at in range(len(options))]
        fields["options"] = "\n".join(f"{mark}{option}" for mark, option in zip(marks, options, strict=True))
        if lettered:
            answer = LETTERS[options.index(answer)]
    return Worded(_SPACES.sub(" ", wording.format(**fields)).strip(), answer.strip())


def chosen_wording(item: Item, language: Language, key: object, *, unseen: bool = False) -> str:
    """Return a wording of an item's task by a hash of the key."""
    return chance("wording", item.task, key).choice(language.wordings(item.task, unseen=unseen))


def places(wording: str) -> set[str]:
    """Return the names of a wording's places."""
    return {name for _, name, _, _ in string.Formatter().parse(wording) if name}
