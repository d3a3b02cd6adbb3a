"""What the command is asked for, whichever way it is written; and the flags that ask for the same."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.cli.merging.references import RESERVED, Named, name_of, parse_model, unknown_references
from cpt.errors import CannotMerge, Problem, UsageError
from cpt.recipe.document import Document, Where

if TYPE_CHECKING:
    from merging.request import MergeRequest

BASE = "base"
SHARD_SIZE = "5GB"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A merge as it is asked for.

    Attributes:
        request: its models' folders are not known yet.
        references: where each model is to be had, by its name.
        folder: where relative references begin.
        shard_size: as it is written.
        notes: what was written and has no effect.
        problems: what was found wrong already; of the request without it the rest is found by `problems_of`.
        document: the file that asks for it.
        places: where the file names each model, by the model's name.
    """

    request: MergeRequest
    references: Mapping[str, str]
    folder: Path
    shard_size: str = SHARD_SIZE
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    document: Document | None = None
    places: Mapping[str, Where] = field(default_factory=dict)


def shard_bytes(size: str) -> int:
    """`500MB`, `5GB`, `5_000_000`: decimal units.

    Raises:
        ValueError: it is no size.
    """
    match = _SIZE.fullmatch(size.replace("_", "").strip())
    if match is None or float(match[1]) * _UNITS[match[2].lower()] < 1:
        raise ValueError(f"{size!r} is no size; write it like 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def problems_of(asked: Asked) -> Iterator[Problem]:
    """Everything that is wrong and can be told without the models; nothing is fetched."""
    from merging.plan import check_request

    document = asked.document
    yield from asked.problems
    for name, problem in unknown_references(asked.references, asked.folder):
        if document is not None and name in asked.places:
            yield document.problem(asked.places[name], problem.message, problem.hint)
        else:
            yield replace(problem, key=name)
    try:
        check_request(asked.request)
    except CannotMerge as error:
        for message in error.problems:
            yield Problem(message, file=document.file if document else None, hint=error.hint)
    try:
        shard_bytes(asked.shard_size)
    except ValueError as error:
        yield Problem(str(error), key="shard size")


def named(models: list[Named], base: Named | None) -> tuple[list[Named], Named | None]:
    """Every model with a name of its own: the given one, or one made from its reference.

    Raises:
        UsageError: a given name is no name, or given twice.
    """
    given = [model.name for model in [*models, *([base] if base else [])] if model.name]
    for name in given:
        if name in RESERVED and not (name == BASE and base is not None and base.name == BASE):
            raise UsageError(f"a model cannot be called {name}", hint="Write another NAME=.")
        if given.count(name) > 1:
            raise UsageError(f"two models are called {name}", hint="Write another NAME= for one of them.")
    taken = {*given, *RESERVED}
    found: list[Named] = []
    if base is not None:
        base = replace(base, name=base.name or name_of(base.reference, taken - {BASE}))
        taken.add(str(base.name))
    for model in models:
        name = model.name or name_of(model.reference, taken)
        taken.add(name)
        found.append(replace(model, name=name))
    return found, base


def command_of(asked: Asked, output: Path) -> str:
    """The command, in flags, that makes the same model again: for its card."""
    request = asked.request
    words = ["cpt", "merge"]
    if request.base is not None:
        name = request.base.name
        words += ["--base", _written(name, asked.references[name], "", {*RESERVED} - {BASE})]
    settings = list(request.parameters.items())
    for model in request.models:
        own = dict(model.parameters)
        weight = own.get("weight")
        plain = isinstance(weight, int | float) and not isinstance(weight, bool)
        tail = f":{own.pop('weight')!r}" if plain else ""
        words += ["--add", _written(model.name, asked.references[model.name], tail, RESERVED)]
        settings += [(f"{model.name}.{name}", value) for name, value in own.items()]
    words += ["--method", request.method]
    for name, value in settings:
        words += ["--set", f"{name}={json.dumps(value)}"]
    for flag, value, default in (
        ("--tokenizer", request.tokenizer, "auto"),
        ("--settings-of", request.settings, None),
        ("--chat-template", request.chat_template, None),
        ("--dtype", request.dtype, None),
        ("--compute-dtype", request.compute_dtype, None),
        ("--seed", request.seed, 0),
        ("--shard-size", asked.shard_size, SHARD_SIZE),
    ):
        if value != default:
            words += [flag, str(value)]
    return shlex.join([*words, "--out", output.name])


def _written(name: str, reference: str, tail: str, taken: Collection[str]) -> str:
    """`REFERENCE:WEIGHT`, with `NAME=` where it would be read or called otherwise."""
    plain = f"{reference}{tail}"
    weight = float(tail[1:]) if tail else None
    as_it_is = parse_model(plain) == Named(reference, None, weight) and name_of(reference, taken) == name
    return plain if as_it_is else f"{name}={plain}"


def parsed_base(text: str | None) -> Named | None:
    """The base as a flag names it."""
    return None if text is None else parse_model(text, weighted=False)


def setting(word: str, names: list[str]) -> tuple[str | None, str, Any]:
    """`density=0.5` or `domain.density=0.3`: the model's name, the parameter, the value (YAML).

    Raises:
        UsageError: it is no setting, or of a model that is not there.
    """
    from cpt.cli.tokenizer.values import parameters
    from cpt.recipe.suggest import did_you_mean

    key, separator, text = word.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"`--set {word}` is no setting", hint="Write KEY=VALUE or NAME.KEY=VALUE.")
    model, dot, name = key.strip().rpartition(".")
    ((name, value),) = parameters([f"{name}={text}"]).items()
    if dot and model not in names:
        raise UsageError(f"`--set {word}`: there is no model called {model}", hint=did_you_mean(model, names))
    return (model if dot else None), name, value
