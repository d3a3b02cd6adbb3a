"""Define `cpt init`: write a recipe that fits a text, or one from a template."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cpt.cli.options import Json
from cpt.cli.output import err, out, print_json, rows
from cpt.cli.tokenizer.options import shown
from cpt.errors import UsageError
from cpt.recipe.authoring import about, template, templates
from cpt.references.syntax import exists

if TYPE_CHECKING:
    from cpt.starter.first_recipe import FirstRecipe

DEFAULT_BASE = "HuggingFaceTB/SmolLM2-135M"
_DEFAULT_TEMPLATE = "quickstart"
_DEFAULT_HOURS = 2.0


def init(
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
        typer.Option("--hours", metavar="H", min=0.01, help="Time for everything, from corpus to report."),
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
            help="Language of the text: en, ko, pt, …  Default: told from the text.",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME",
            help="Benchmarks to evaluate by: medical, finance, legal. May be repeated.",
        ),
    ] = None,
    text_field: Annotated[
        str, typer.Option("--text-field", metavar="NAME", help="Field of records that holds the text.")
    ] = "text",
    name: Annotated[
        str | None, typer.Option("--template", "-t", metavar="NAME", help="Write this template instead.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", metavar="", help="List the templates and exit.")] = False,
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
    if listing:
        return _list_templates(as_json)
    texts = list(text or ())
    if texts and name:
        raise UsageError("--text fits a recipe to a text, --template copies one", hint="Leave one out.")
    if not texts and not name and not as_json and sys.stdin.isatty():
        answers = _ask(base, hours)
        texts, base, hours, gpu = answers
    if not texts:
        return _write_template(name or _DEFAULT_TEMPLATE, path, force, as_json)
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
    wishes = Wishes(hours=hours, language=language, replay=bool(replay), suites=tuple(suite or ()))
    found = first_recipe(sources, wishes, gpu, folder, shown())
    target.write_text(found.text, encoding="utf-8")
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


def _ask(base: str, hours: float) -> tuple[list[str], str, float, str | None]:
    """Ask for the text, the model, the time and the hardware."""
    console = err()
    console.print("Enter takes the answer in brackets. Ctrl-C ends without writing anything.")
    texts = typer.prompt("Text to learn (file, folder or pattern; several with commas)", err=True)
    base = typer.prompt("Model (hub id, folder or GGUF file)", default=base, err=True)
    hours = typer.prompt("Hours for everything", default=hours, type=float, err=True)
    gpu = typer.prompt("GPU (h100, a100, l4, …) or here", default="here", err=True)
    found = [each.strip() for each in texts.split(",") if each.strip()]
    return found, base, hours, None if gpu.strip().lower() == "here" else gpu.strip()


def _name_of(path: Path | None, text: str) -> str:
    """Return the name of a recipe: that of its file, or of its text."""
    source = (
        path.stem if path is not None and not path.is_dir() else Path(text.rstrip("/*")).name.split(".")[0]
    )
    return re.sub(r"[^A-Za-z0-9_-]+", "-", source).strip("-") or "adaptation"


def _beside(reference: str, folder: Path) -> str:
    """Return a local path relative to the recipe's folder; other references as they are."""
    if not exists(Path(reference)):
        return reference
    return os.path.relpath(Path(reference).absolute(), folder.absolute())


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
    target.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"recipe": str(target), "template": name})
    else:
        out().print(f"Wrote {target}. Read it, change it, then: cpt run {target}", soft_wrap=True)


def _list_templates(as_json: bool) -> None:
    known = {name: about(text) for name, text in templates().items()}
    if as_json:
        return print_json(known)
    table = rows()
    table.add_column("")
    table.add_column("")
    for name, line in known.items():
        table.add_row("", Text(name, style="bold"), line)
    return out().print(table)


def _print(found: FirstRecipe, target: Path) -> None:
    """Print the choices with their reasons, and what to do next."""
    console, choices = out(), found.choices
    table = rows("setting", "value", "why")
    new = f"{choices.new_tokens:,} new tokens" if choices.new_tokens else "unchanged"
    for setting, value, reason in (
        ("tokens", f"{choices.tokens:,}", choices.reasons["tokens"]),
        ("batch", f"{choices.batch} of {choices.sequence_length} tokens", choices.reasons["batch"]),
        ("replay", f"{choices.replay:.0%}", choices.reasons["replay"]),
        ("vocabulary", new, choices.reasons["vocabulary"]),
        ("held out", f"{choices.heldout:.0%}", choices.reasons["heldout"]),
        (
            "budget",
            f"general <= +{choices.limit:g}",
            "in bits per byte; the merge weight is searched under it",
        ),
    ):
        table.add_row("", Text(setting), Text(value), Text(reason))
    console.print(table)
    console.print(f"Wrote {target}. Read it, then: cpt plan {target}; cpt run {target}", soft_wrap=True)
