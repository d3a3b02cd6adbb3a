"""The exception family. Each exception carries the exit code of the command that meets it.

'Did you mean': the nearest of the words that would have been right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a user's input: what, where, and what to do about it."""

    message: str
    file: str | None = None
    line: int | None = None
    key: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = self.file or ""
        if where and self.line is not None:
            where = f"{where}:{self.line}"
        parts = [part for part in (where, self.key, self.message) if part]
        text = ": ".join(parts)
        return f"{text}\n  {self.hint}" if self.hint else text


class CptError(Exception):
    """Any failure that is explained to the user without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class RecipeError(CptError):
    """The recipe, an override or an input named by it is wrong: found before any stage ran."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(CptError):
    """The command line asks for something that does not exist (a run, a stage, an artifact)."""

    exit_code = 2


class ReferenceUnavailable(CptError):
    """A model or a data set could not be had: says what was tried and what to do offline."""


class MissingInput(ReferenceUnavailable):
    """A local file or folder that the user named does not exist or cannot be read."""

    exit_code = 2


class DataError(CptError):
    """The content of an input is unusable: names the file and the line."""


class ModelError(DataError):
    """A model folder is damaged, or its files do not fit each other: names the file."""

    exit_code = 2


class CannotMerge(CptError):
    """Models, a method and its parameters that do not fit together: found before anything is written."""

    exit_code = 2

    def __init__(self, problems: Iterable[str], *, hint: str | None = None) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class DamagedFile(DataError):
    """A file that cpt or a tool wrote is not what it was, or is not there: names it and the reason."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        self.path, self.reason = path, reason
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {reason}", hint=hint)


class StageFailed(CptError):
    """A stage could not finish."""


class SourceError(DataError):
    """A source of text cannot be read, whatever is tried: names the file, and the line where there is one."""

    exit_code = 2


class DiskFull(StageFailed):
    """A checkpoint does not fit on the disk. What was there before is still there.

    Attributes:
        needed, free: bytes.
    """

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        self.folder, self.needed, self.free = folder, needed, free
        if free < needed:
            message = f"no space left in {folder}: {needed:,} bytes are needed, {free:,} are free"
        else:  # others have used it, and may have given it back
            message = f"the disk of {folder} became full while {needed:,} bytes were written"
        super().__init__(
            message,
            hint="Free some space, or choose a folder on another disk; the same command then continues.",
        )


class GateFailed(CptError):
    """A stage finished, but a quality or forgetting budget is broken.

    The stage's output is complete and kept, and later stages run; `metrics` are what its `run` would have
    returned. `verdict` is the worst of its budgets.
    """

    exit_code = 3
    verdict = "broken"

    def __init__(
        self, message: str, *, hint: str | None = None, metrics: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.metrics = dict(metrics or {})


class GateNotShown(GateFailed):
    """A stage finished, and no budget is broken, but one is not shown to be held: the noise is too large."""

    exit_code = 4
    verdict = "not shown"


class Interrupted(CptError):
    """The user stopped the run (Ctrl-C); the same command continues it."""

    exit_code = 130


class Terminated(Interrupted):
    """A scheduler stopped the run (SIGTERM, as before a preemption); the same command continues it."""

    exit_code = 143


def nearest_hint(word: str, options: Iterable[str]) -> str | None:
    """A hint that names the option nearest to a misspelt word; None if none is near."""
    near = get_close_matches(word.lower(), list(options), n=1, cutoff=0.6)
    return f"Did you mean `{near[0]}`?" if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str | None:
    """A hint that names the option nearest to a misspelt word, else all options; None without options."""
    known = list(dict.fromkeys(options))
    if not known:
        return None
    return nearest_hint(word, known) or "Known here: " + ", ".join(f"`{option}`" for option in known) + "."
