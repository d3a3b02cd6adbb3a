"""Ask in a terminal for what `cpt init` needs and was not told; a wrong answer is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from cpt.cli.output import err
from cpt.errors import CptError, Interrupted, Problem, UsageError
from cpt.references import check
from cpt.references.syntax import exists

FEWEST_HOURS, MOST_HOURS = 0.01, 100_000
_HERE, _AUTO = "here", "auto"


@dataclass(frozen=True)
class Answers:
    """Facts that a recipe is fitted to: text, language, model, time and hardware.

    Attributes:
        texts: References of the text to learn.
        language: Code of the language; None: told from the text.
        base: Reference of the model.
        hours: Time for everything.
        gpu: GPU by name; None: this machine.
    """

    texts: list[str]
    language: str | None
    base: str
    hours: float
    gpu: str | None


def hours_within(hours: float) -> float:
    """Return a time in hours unchanged, if it is a number that a run can take.

    Raises:
        typer.BadParameter: It is not, as 0, nan and inf.
    """
    if not FEWEST_HOURS <= hours <= MOST_HOURS:  # false for nan
        raise typer.BadParameter(f"{hours:g} is not between {FEWEST_HOURS} and {MOST_HOURS:,} hours")
    return hours


def language_known(code: str | None) -> str | None:
    """Return the code of a language in lower case, if there is such a language; None stays None.

    Raises:
        typer.BadParameter: There is none.
    """
    if code is None:
        return None
    from cpt.corpus.blocks.language import CODES

    if code.strip().lower() not in CODES:
        raise typer.BadParameter(f"{code!r} is no code of a known language, such as en, ko and pt")
    return code.strip().lower()


def ask(default: Answers, given: Mapping[str, Any], check_target: Callable[[str], object]) -> Answers:
    """Ask for the text, and for language, model, time and hardware where they were not given.

    Args:
        default: Answers in brackets.
        given: Options on the command line, by name; they are not asked for.
        check_target: Function of a text that raises if the recipe cannot be written under its name.

    Raises:
        Interrupted: There are no more answers (Ctrl-C, Ctrl-D).
    """
    err().print("Enter takes the answer in brackets. Ctrl-C ends without writing anything.")
    language, base, hours, gpu = default.language, default.base, default.hours, default.gpu
    try:
        texts: list[str] = typer.prompt(
            "Text to learn (file, folder or pattern; several with commas)", value_proc=_texts, err=True
        )
        check_target(texts[0])
        if "language" not in given:
            language = typer.prompt(
                "Language of the text (en, ko, pt, …), or auto", default=_AUTO, value_proc=_language, err=True
            )
        if "base" not in given:
            base = typer.prompt(
                "Model (hub id, folder or GGUF file)", default=base, value_proc=_reference, err=True
            )
        if "hours" not in given:
            hours = typer.prompt("Hours for everything", default=hours, value_proc=_hours, err=True)
        if "gpu" not in given:
            gpu = typer.prompt("GPU (h100, a100, l4, …) or here", default=_HERE, value_proc=_gpu, err=True)
    except typer.Abort:
        err().print()
        raise Interrupted("interrupted; nothing was written") from None
    return Answers(texts, language, base, hours, gpu)


def _texts(answer: str) -> list[str]:
    """Return the references of an answer, which all exist."""
    answer = answer.strip()
    found = [answer] if exists(Path(answer)) else [each.strip() for each in answer.split(",") if each.strip()]
    if not found:
        raise typer.BadParameter("name a file, a folder or a pattern")
    return [_reference(each) for each in found]


def _reference(answer: str) -> str:
    reference = answer.strip()
    problem = check(reference, Path.cwd())
    if problem is not None:
        raise typer.BadParameter(_one_line(problem))
    return reference


def _language(answer: str) -> str | None:
    return None if answer.strip().lower() == _AUTO else language_known(answer)


def _hours(answer: str | float) -> float:
    try:
        return hours_within(float(answer))
    except ValueError:
        raise typer.BadParameter(f"{answer!r} is not a number of hours") from None


def _gpu(answer: str) -> str | None:
    from cpt.estimate import devices

    name = answer.strip()
    if name.lower() == _HERE:
        return None
    try:
        return devices.gpu(name).name
    except UsageError as error:
        raise typer.BadParameter(_one_line(error)) from None


def _one_line(wrong: Problem | CptError) -> str:
    return f"{wrong.message}. {wrong.hint}" if wrong.hint else wrong.message
