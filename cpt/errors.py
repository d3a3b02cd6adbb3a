"""Define the exceptions that users see. Each has the exit code of the command that meets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A mistake in a user's input: the message, its place, and what to do about it."""

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
    """A failure that is explained to the user without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class RecipeError(CptError):
    """A mistake in the recipe, an override or an input named there, found before any stage ran."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(CptError):
    """A request for something that does not exist: a run, a stage, an artifact, a token."""

    exit_code = 2


class ReferenceUnavailable(CptError):
    """A model or data set that cannot be fetched. The message says what was tried and what to do offline."""


class MissingInput(ReferenceUnavailable):
    """A file or folder named by the user that does not exist, cannot be read or is incomplete."""

    exit_code = 2


class DataError(CptError):
    """An input with unusable content. The message names the file and the line."""


class ModelError(DataError):
    """A damaged model folder, or one whose files do not fit each other. The message names the file."""

    exit_code = 2


class CannotMerge(CptError):
    """Models, a method and parameters that do not fit together, found before anything is written."""

    exit_code = 2

    def __init__(self, problems: Iterable[str], *, hint: str | None = None) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class DamagedFile(DataError):
    """A file written by cpt or a tool that has changed or is missing. The message names it and the reason."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        self.path, self.reason = path, reason
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {reason}", hint=hint)


class StageFailed(CptError):
    """A stage that could not finish."""


class SourceError(DataError):
    """A source of text that cannot be read in any way. The message names the file, and the line if known."""

    exit_code = 2


class DiskFull(StageFailed):
    """A checkpoint that does not fit on the disk. Everything that was there before is kept.

    Attributes:
        needed: Bytes that the checkpoint needs.
        free: Bytes that are free.
    """

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        self.folder, self.needed, self.free = folder, needed, free
        if free < needed:
            message = f"no space left in {folder}: {needed:,} bytes are needed, {free:,} are free"
        else:  # other programs have used the space, and may have freed it again
            message = f"the disk of {folder} became full while {needed:,} bytes were written"
        super().__init__(
            message,
            hint="Free some space, or choose a folder on another disk; the same command then continues.",
        )


class GateFailed(CptError):
    """A stage that finished, but exceeds a limit on quality or forgetting.

    The stage's output is complete and kept, and later stages run.

    Attributes:
        metrics: Metrics that the stage's `run` would have returned.
        verdict: Worst verdict of its limits.
    """

    exit_code = 3
    verdict = "broken"

    def __init__(
        self, message: str, *, hint: str | None = None, metrics: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.metrics = dict(metrics or {})


class GateNotShown(GateFailed):
    """A stage that finished with no limit exceeded, but one not shown to be held: the noise is too large."""

    exit_code = 4
    verdict = "not shown"


class Interrupted(CptError):
    """A run that the user stopped (Ctrl-C). The same command continues it."""

    exit_code = 130


class Terminated(Interrupted):
    """A run that a scheduler stopped (SIGTERM, as before a preemption). The same command continues it."""

    exit_code = 143


def nearest_hint(word: str, options: Iterable[str]) -> str | None:
    """Return a hint that names the option nearest to a misspelt word, or None if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), list(options), n=1, cutoff=0.6)
    return f"Did you mean `{near[0]}`?" if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str | None:
    """Return a hint that names the nearest option, or else all options; None without options."""
    known = list(dict.fromkeys(options))
    if not known:
        return None
    return nearest_hint(word, known) or "Known here: " + ", ".join(f"`{option}`" for option in known) + "."
