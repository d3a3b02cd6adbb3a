"""What the command is asked for, whichever way it is written; and the flags that ask for the same.

Models on the command line: `[NAME=]MODEL[:WEIGHT]`; and from what is named to folders.

A merge from flags.

Arguments and options of `cpt merge`.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpt.cli.naming import split_name
from cpt.errors import CannotMerge, CptError, DataError, Problem, RecipeError, UsageError
from cpt.recipe.document import Document, Where
from cpt.references import check, fingerprints, locate, resolve_model
from cpt.references.progress import Messages
from cpt.references.syntax import exists

if TYPE_CHECKING:
    from merging.request import InputModel, MergeRequest


RESERVED = ("auto", "base", "union")
"""What `--tokenizer` means by itself; no model is called so."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?\.?(inf|nan)", re.IGNORECASE)
_FILE = re.compile(r"\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """A model as it is written: its name, if it is given one, its reference, its weight."""

    reference: str
    name: str | None = None
    weight: float | None = None


def parse_model(text: str, *, weighted: bool = True) -> Named:
    """`domain`, `domain:0.8`, `law=org/name:0.8`, `C:\\models\\law:1`.

    What exists as it is written is a path, whatever is in it. Else a name is what stands before the first
    `=`, if it is of letters, digits, `.`, `_` and `-`; a weight is what stands after the last colon, if it
    is a number.

    Args:
        weighted: whether there may be a weight.
    """
    name, rest = split_name(text)
    if exists(Path(text)):
        return Named(text)
    reference, colon, tail = rest.rpartition(":")
    if not weighted or not colon or not reference or exists(Path(rest)) or not _NUMBER.fullmatch(tail):
        return Named(rest, name)
    return Named(reference, name, float(tail.lower().replace(".inf", "inf").replace(".nan", "nan")))


def name_of(reference: str, taken: Collection[str]) -> str:
    """What a model without a name of its own is called: the end of its reference, numbered if it is taken."""
    end = reference.partition("#sha256=")[0].replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^\w.-]+", "-", _FILE.sub("", end.partition("@")[0])).strip("-.") or "model"
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (plain, *numbered) if name not in taken)


def unknown_references(references: Mapping[str, str], folder: Path) -> Iterator[tuple[str, Problem]]:
    """What is wrong with references as far as can be told without fetching; by the models' names."""
    for name, reference in references.items():
        problem = check(reference, folder)
        if problem is not None:
            yield name, problem


def resolved(references: Mapping[str, str], folder: Path, progress: Messages) -> dict[str, Path]:
    """Folders of the models by name; fetched or converted where necessary.

    Args:
        folder: where relative paths begin.

    Raises:
        RecipeError: some cannot be had; says which and why.
    """
    found, problems = {}, []
    for name, reference in references.items():
        try:
            found[name] = model_or_adapter(locate(reference, folder), progress)
        except RecipeError as error:
            problems += error.problems
        except CptError as error:
            problems.append(Problem(error.message, key=name, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return found


def model_or_adapter(reference: str, progress: Messages) -> Path:
    """Folder of a model, or of an adapter, which is a local folder.

    Raises:
        ReferenceUnavailable: It cannot be had.
        RecipeError: The reference is malformed.
    """
    from merging.adapters import is_adapter

    return Path(reference) if is_adapter(Path(reference)) else resolve_model(reference, progress)


def in_folders(request: MergeRequest, folders: Mapping[str, Path]) -> MergeRequest:
    """The request with its models in their folders."""

    def placed(parent: InputModel) -> InputModel:
        return replace(parent, folder=folders[parent.name])

    return _changed(request, placed)


def with_fingerprints(request: MergeRequest, references: Mapping[str, str], folder: Path) -> MergeRequest:
    """The request with the fingerprints of its models' contents."""
    found = fingerprints_by_name(references, folder)
    return _changed(request, lambda parent: replace(parent, fingerprint=found[parent.name]))


def fingerprints_by_name(references: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Fingerprints of what models hold, by the models' names."""
    places = [locate(reference, folder) for reference in references.values()]
    return dict(zip(references, fingerprints(places), strict=True))


def fingerprints_meanwhile(references: Mapping[str, str], folder: Path) -> Future[Mapping[str, str]]:
    """Begin to read models for their fingerprints.

    The thread ends with the program: a merge that fails does not wait for it.
    """
    found: Future[Mapping[str, str]] = Future()

    def work() -> None:
        try:
            found.set_result(fingerprints_by_name(references, folder))
        except OSError as error:
            which = error.filename or "a model"
            found.set_exception(
                DataError(f"{which} cannot be read for its fingerprint: {error.strerror or error}")
            )
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return found


def _changed(request: MergeRequest, change: Callable[[InputModel], InputModel]) -> MergeRequest:
    models = tuple(change(model) for model in request.models)
    return replace(request, models=models, base=None if request.base is None else change(request.base))


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


def from_flags(
    base: str | None,
    add: Sequence[str],
    method: str | None,
    density: float | None,
    normalize: bool | None,
    settings: Sequence[str],
    tokenizer: str | None,
    settings_of: str | None,
    template: str | None,
    dtype: str | None,
    compute_dtype: str | None,
    seed: int | None,
    shard_size: str | None,
) -> Asked:
    """What the flags ask for.

    Raises:
        UsageError: there is no model, or two have one name.
        CannotMerge: there is no such chat template.
    """
    from merging.request import AUTO, InputModel, MergeRequest

    if not add:
        raise UsageError(
            "name the models to merge",
            hint="cpt merge --base B --add M:0.8 --out O, or cpt merge plan.yaml --out O.",
        )
    models, base_model = named([parse_model(text) for text in add], parsed_base(base))
    names = [str(model.name) for model in models]
    given = {"density": density, "normalize": normalize}
    shared, own, problems = _settings(
        settings,
        {name: value for name, value in given.items() if value is not None},
        {str(model.name): {} if model.weight is None else {"weight": model.weight} for model in models},
    )
    parents = tuple(InputModel(name, Path(), parameters=own[name]) for name in names)
    request = MergeRequest(
        method=(method or "task-arithmetic").replace("_", "-"),
        models=parents,
        base=None if base_model is None else InputModel(str(base_model.name), Path()),
        parameters=shared,
        tokenizer=tokenizer or AUTO,
        settings=settings_of,
        chat_template=template_text(template, Path.cwd()),
        dtype=dtype,
        compute_dtype=compute_dtype,
        seed=seed or 0,
    )
    named_models = [*models, *([base_model] if base_model else [])]
    references = {str(model.name): model.reference for model in named_models}
    return Asked(request, references, Path.cwd(), shard_size or SHARD_SIZE, problems=tuple(problems))


def _settings(
    words: Sequence[str], shared: dict[str, Any], own: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[Problem]]:
    """Add what `--set` says to the parameters of the method and of each model, and tell what cannot be."""
    problems = []
    for word in words:
        try:
            model, name, value = setting(word, list(own))
        except UsageError as error:
            problems.append(Problem(error.message, hint=error.hint))
            continue
        whose = shared if model is None else own[model]
        if name in whose:
            of = "" if model is None else f" of {model}"
            problems.append(Problem(f"`--set {word}`: {name}{of} is given twice"))
        whose[name] = value
    return shared, own, problems


def template_text(choice: str | None, folder: Path) -> str | None:
    """A chat template: of a file, one of mergekit's by name, or the text itself.

    Raises:
        CannotMerge: it is none of these.
    """
    from cpt.references.syntax import exists
    from merging.mergekit_file import chat_template

    if choice is None:
        return None
    if exists(folder / choice) and (folder / choice).is_file():
        return (folder / choice).read_text(encoding="utf-8")
    return chat_template(choice, ())


PlanArgument = Annotated[
    Path | None,
    typer.Argument(metavar="PLAN", help="A YAML file instead of the flags: ours, or mergekit's as it is."),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="[NAME=]MODEL",
        help="What changes are counted from: folder, hub id, GGUF, file in a wheel.",
    ),
]
Add = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="[NAME=]MODEL[:WEIGHT]", help="A model and its weight. May be repeated."),
]
MethodName = Annotated[
    str | None,
    typer.Option("--method", metavar="NAME", help="See cpt merge methods. \\[default: task-arithmetic]"),
]
Density = Annotated[
    float | None,
    typer.Option("--density", metavar="SHARE", help="Share of each model's changes that is kept."),
]
Normalize = Annotated[
    bool | None,
    typer.Option("--normalize/--no-normalize", help="Whether the sum is divided by the sum of the weights."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[NAME.]KEY=VALUE",
        help="A parameter of the method, or of one model: `lambda=0.7`, `domain.density=0.3`; by layers "
        "`domain.weight=\\[0, 1]`; for some tensors "
        "`density=\\[{filter: mlp, value: 0.3}, {layers: \\[0, 8], value: 0.5}]`. May be repeated.",
    ),
]
TokenizerOf = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="base|NAME|union",
        help="Whose vocabulary the result has. \\[default: the model with every token of all, else union]",
    ),
]
SettingsOf = Annotated[
    str | None,
    typer.Option(
        "--settings-of",
        metavar="base|NAME",
        help="Whose chat template and generation settings. \\[default: as the tokenizer]",
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="FILE|NAME|TEXT",
        help="A chat template instead: a file, one of mergekit's (chatml, alpaca, …), or the text itself.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="TYPE", help="Data type of the result. \\[default: the widest of the models']"
    ),
]
ComputeDtype = Annotated[
    str | None,
    typer.Option(
        "--compute-dtype",
        metavar="TYPE",
        help="Data type of the arithmetic; `stored` for the models'. "
        "\\[default: float64 for task arithmetic, else float32]",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of random methods. \\[default: 0]")]
ShardSize = Annotated[
    str | None,
    typer.Option("--shard-size", metavar="SIZE", help="Most bytes in a file: 500MB. \\[default: 5GB]"),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="New folder for the result.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Write nothing: say what would be merged, which rows go where, how much memory it takes.",
    ),
]
