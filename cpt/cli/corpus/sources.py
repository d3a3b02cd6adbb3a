"""Define how commands without a recipe name sources of text, and check settings as a recipe's are checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.markup import escape

from cpt.cli.options import split_name
from cpt.cli.tokenizer.options import located, source_of, yaml_value
from cpt.errors import Problem, RecipeError, UsageError
from cpt.references.syntax import exists

if TYPE_CHECKING:
    from cpt.stages.corpus.source_config import Source

_EXAMPLE = "'{path: FILE, metadata: [score]}'"

SOURCE = "[NAME=]SOURCE"
AS_A_SOURCE = f"Or a source as a recipe has it: {escape(_EXAMPLE)}. May be repeated."
"""Metavar, and end of the help, of options that take sources. The help would drop [score] as a style."""

Texts = Annotated[
    list[str],
    typer.Option("--text", metavar=SOURCE, help=f"Text: file, folder, pattern or address. {AS_A_SOURCE}"),
]
TextField = Annotated[
    str,
    typer.Option(
        "--text-field", metavar="NAME", help="Field of records that holds the text, where no source says."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes that extract text from HTML, PDF and DOCX. Default: one for each processor.",
    ),
]

Config = TypeVar("Config", bound=BaseModel)


def validated(kind: type[Config], data: dict[str, Any], at: str | None = None) -> Config:
    """Return settings of a kind.

    Args:
        at: Place of the settings, which starts the keys of their problems.

    Raises:
        RecipeError: They have mistakes; it names all of them.
    """
    from cpt.recipe.explain import findings, mistaken_booleans

    cause: ValidationError | None = None
    try:
        checked = kind.model_validate(data)
        found = mistaken_booleans(checked, data)
        if not found:
            return checked
    except ValidationError as error:
        found, cause = findings(error, kind, data), error
    start = [] if at is None else [at]
    raise RecipeError(
        [
            Problem(each.message, key=".".join(map(str, [*start, *each.where])), hint=each.hint)
            for each in found
        ]
    ) from cause


def sources_of(words: Sequence[str], text_field: str, option: str = "--text") -> list[Source]:
    """Return the sources that a user names by `[NAME=]REFERENCE` or as mappings in YAML.

    Args:
        text_field: Field that holds the text, of sources that name none.
        option: Option or argument that has the words, for messages.

    Raises:
        UsageError: A mapping is no YAML, or a source has two names.
        RecipeError: A source has mistakes, or cannot be read as it is named; it names all problems.
    """
    from cpt.stages.corpus.source_config import Source

    sources, problems = [], []
    for number, word in enumerate(words):
        at = option if len(words) == 1 else f"{option}.{number}"
        try:
            source = validated(Source, {"text_field": text_field, **_settings(word, option)}, at)
        except RecipeError as error:
            problems += error.problems
            continue
        sources.append(source)
        problems += _problems(source, at)
    if problems:
        raise RecipeError(problems)
    return sources


def _settings(word: str, option: str) -> dict[str, Any]:
    """Return the settings of a source as a user writes it, with a relative path made absolute."""
    name, reference = split_name(word)
    named = {} if name is None else {"name": name}
    if not reference.lstrip().startswith("{") or exists(Path(reference)):
        return source_of(reference) | named
    given = yaml_value(
        option, reference, hint=f"Write a source like {_EXAMPLE}; quote what YAML reads otherwise."
    )
    if name is not None and "name" in given:
        raise UsageError(f"{option} {word}: two names", hint="Give one of them.")
    path = given.get("path")
    if isinstance(path, str) and path:
        given = source_of(path) | given | {"path": located(path)}
    return given | named


def _problems(source: Source, at: str) -> Iterator[Problem]:
    """Yield what keeps a source from being read, as far as its settings and its reference show."""
    from cpt.stages.corpus.checks import source_problem, uroman_problems

    if source.chat is not None:
        # What is written here is read again as text, which would neither keep the marks of turns nor weights.
        yield Problem(
            "conversations are rendered by the chat template of a recipe's base model",
            key=f"{at}.chat",
            hint="Work on them in a recipe (cpt corpus build), or name the field of a text: text_field.",
        )
    elif (problem := source_problem(at, source)) is not None:
        yield problem
    yield from uroman_problems([at] if source.transliterate else [])
