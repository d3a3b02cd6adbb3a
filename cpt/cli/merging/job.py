"""Read a merge from the flags of `cpt merge`: settings, references, problems."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cpt.cli.options import split_name
from cpt.errors import CannotMerge, CptError, DataError, Problem, RecipeError, UsageError
from cpt.progress import Progress
from cpt.recipe.document import Document
from cpt.recipe.explain import Finding, findings, mistaken_booleans
from cpt.references import check, fingerprints, locate
from cpt.references.syntax import exists
from cpt.stages.merge.config import MergeConfig
from cpt.stages.merge.request import ModelFolder, merge_request
from merging.request import BASE, RESERVED, model_names, name_of

if TYPE_CHECKING:
    from merging.request import MergeRequest

SHARD_SIZE = MergeConfig.model_fields["shard_size"].default
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?\.?(inf|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class ModelSpec:
    """A model as a flag names it: its reference, its name if one is given, its weight."""

    reference: str
    name: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class MergeJob:
    """A merge that is described and not checked yet.

    Attributes:
        config: Settings, as of the merge stage; every model is a reference.
        folder: Folder that relative references start from.
        seed: Seed of random methods.
        notes: Settings without effect, in words.
        problems: Mistakes that are known already; `problems_of` finds the others.
        document: File with the settings; None for flags.
    """

    config: MergeConfig
    folder: Path
    seed: int = 0
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    document: Document | None = None

    @property
    def references(self) -> dict[str, str]:
        """Reference of every model by its name."""
        return {model.name: model.reference for model in self.config.external_models}

    def request(self, folders: Mapping[str, ModelFolder] | None = None) -> MergeRequest:
        """Return the merge request; without folders it can be checked, not run.

        Raises:
            CannotMerge: There is no such chat template.
        """
        return merge_request(self.config, folders or {}, self.seed)


def parse_model(text: str, *, weighted: bool = True) -> ModelSpec:
    """Parse `domain`, `domain:0.8`, `law=org/name:0.8` or `C:\\models\\law:1`.

    A text that exists as a path is a path, whatever characters it has. Otherwise the name stands before
    the first `=` and has letters, digits, `.`, `_` and `-`; the weight is a number after the last colon.

    Args:
        weighted: True if the text may have a weight.
    """
    name, rest = split_name(text)
    if exists(Path(text)):
        return ModelSpec(text)
    reference, colon, tail = rest.rpartition(":")
    if not weighted or not colon or not reference or exists(Path(rest)) or not _NUMBER.fullmatch(tail):
        return ModelSpec(rest, name)
    return ModelSpec(reference, name, float(tail.lower().replace(".inf", "inf").replace(".nan", "nan")))


def from_flags(
    base: str | None,
    add: Sequence[str],
    *,
    density: float | None,
    normalize: bool | None,
    words: Sequence[str],
    seed: int | None,
    **settings: Any,
) -> MergeJob:
    """Return the merge that flags describe.

    Args:
        words: Values of `--set`.
        settings: Settings of `MergeConfig` by name; None where a flag is not given.

    Raises:
        UsageError: There is no model.
        RecipeError: Models have impossible names or weights.
    """
    if not add:
        raise UsageError(
            "name the models to merge",
            hint="cpt merge --base B --add M:0.8 --out O, or cpt merge plan.yaml --out O.",
        )
    models = [parse_model(text) for text in add]
    base_model = None if base is None else parse_model(base, weighted=False)
    _, names = model_names(
        [(each.name, each.reference) for each in models],
        None if base_model is None else (base_model.name, base_model.reference),
    )
    given = {"density": density, "normalize": normalize}
    shared: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    own: dict[str, dict[str, Any]] = {
        name: {} if each.weight is None else {"weight": each.weight}
        for name, each in zip(names, models, strict=True)
    }
    problems = _add_settings(words, shared, own)
    data: dict[str, Any] = {
        "base": None if base_model is None else _model_data(base_model),
        "models": [
            _model_data(each) | _parameters_data(own[name]) for name, each in zip(names, models, strict=True)
        ],
        "parameters": shared,
    }
    data |= {name: value for name, value in settings.items() if value is not None}
    config, wrong = validated(data)
    problems += [Problem(each.message, key=_key(each), hint=each.hint) for each in wrong]
    if config is None:
        raise RecipeError(problems)
    return MergeJob(config, Path.cwd(), seed or 0, problems=tuple(problems))


def _model_data(spec: ModelSpec) -> dict[str, Any]:
    return {"model": spec.reference} | ({} if spec.name is None else {"name": spec.name})


def _parameters_data(parameters: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in parameters.items() if name != "weight"}
    weight = {"weight": parameters["weight"]} if "weight" in parameters else {}
    return weight | ({"parameters": others} if others else {})


def _key(finding: Finding) -> str:
    """Return the flag-like name of a setting: a search's settings stand for flags of their own."""
    where = finding.where[1:] if finding.where[:1] == ("search",) else finding.where
    return "limit" if where[:1] == ("gates",) else ".".join(map(str, where))


def validated(data: dict[str, Any]) -> tuple[MergeConfig | None, list[Finding]]:
    """Return the settings, and everything that is wrong in them.

    A wrong setting is left out, so that the rest can be checked in the same run; None where that is not
    possible, because the models themselves are wrong.
    """
    found: list[Finding] = []
    while True:
        try:
            config = MergeConfig.model_validate(data)
        except ValidationError as error:
            wrong = findings(error, MergeConfig, data)
        else:
            wrong = mistaken_booleans(config, data)
        found += wrong
        if not wrong:
            return config, found
        keys = {str(each.where[0]) for each in wrong if each.where}
        if not keys or keys & {"models", "base"}:
            return None, found
        data = {name: value for name, value in data.items() if name not in keys}


def _add_settings(
    words: Sequence[str], shared: dict[str, Any], own: dict[str, dict[str, Any]]
) -> list[Problem]:
    """Add the values of `--set` to the parameters of the method and of each model; return what is wrong."""
    problems = []
    for word in words:
        try:
            model, name, value = _setting(word, list(own))
        except UsageError as error:
            problems.append(Problem(error.message, hint=error.hint))
            continue
        whose = shared if model is None else own[model]
        if name in whose:
            of = "" if model is None else f" of {model}"
            problems.append(Problem(f"`--set {word}`: {name}{of} is given twice"))
        whose[name] = value
    return problems


def _setting(word: str, names: list[str]) -> tuple[str | None, str, Any]:
    """Parse `density=0.5` or `domain.density=0.3`: the model's name, the parameter, the value (YAML)."""
    from cpt.cli.tokenizer.options import parameters
    from cpt.errors import did_you_mean

    key, separator, text = word.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"`--set {word}` is no setting", hint="Write KEY=VALUE or NAME.KEY=VALUE.")
    model, dot, name = key.strip().rpartition(".")
    ((name, value),) = parameters([f"{name}={text}"]).items()
    if dot and model not in names:
        raise UsageError(f"`--set {word}`: there is no model called {model}", hint=did_you_mean(model, names))
    return (model if dot else None), name, value


def problems_of(job: MergeJob, request: MergeRequest | None = None) -> Iterator[Problem]:
    """Find everything that is wrong and can be found without the models; nothing is fetched.

    Args:
        request: Request to check instead of the job's own.
    """
    from merging.check import check_request

    yield from known_problems(job)
    try:
        check_request(request or job.request())
    except CannotMerge as error:
        for message in error.problems:
            yield Problem(message, file=job.document.file if job.document else None, hint=error.hint)


def known_problems(job: MergeJob) -> Iterator[Problem]:
    """Report mistakes in the description itself, and references to nothing."""
    document = job.document
    yield from job.problems
    for model in job.config.external_models:
        problem = check(model.reference, job.folder)
        if problem is not None and document is not None:
            where = _place(model.key)
            yield document.problem(where, problem.message, problem.hint)
        elif problem is not None:
            yield replace(problem, key=model.name)


def output_problems(output: Path | None) -> Iterator[Problem]:
    """Report what stands where the result is to be written."""
    from merging.writer import check_free

    try:
        if output is not None:
            check_free(output)
    except CannotMerge as error:
        yield Problem(error.message, hint=error.hint)


def _place(key: str) -> tuple[str | int, ...]:
    """Return the place in a plan file of a model's setting: there the base is its reference alone."""
    if key == "base.model":
        return ("base",)
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def resolved(references: Mapping[str, str], folder: Path, progress: Progress) -> dict[str, Path]:
    """Return the folders of models by their names; fetch or convert them if necessary.

    Args:
        folder: Folder that relative references start from.

    Raises:
        RecipeError: Some cannot be had; the problems say which and why.
    """
    from merging.adapters import resolve_input

    found, problems = {}, []
    for name, reference in references.items():
        try:
            found[name] = resolve_input(locate(reference, folder), progress)
        except RecipeError as error:
            problems += error.problems
        except CptError as error:
            problems.append(Problem(error.message, key=name, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return found


def fingerprints_by_name(references: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the fingerprints of the models' contents by the models' names."""
    places = [locate(reference, folder) for reference in references.values()]
    return dict(zip(references, fingerprints(places), strict=True))


def fingerprints_meanwhile(references: Mapping[str, str], folder: Path) -> Future[Mapping[str, str]]:
    """Start to read models for their fingerprints.

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


def command_of(job: MergeJob, request: MergeRequest, output: Path) -> str:
    """Return the command, in flags, that makes the same model again, for its card.

    Args:
        request: Request of the job; a search has filled in its weights.
    """
    references = job.references
    words = ["cpt", "merge"]
    if request.base is not None:
        name = request.base.name
        words += ["--base", _written(name, references[name], "", {*RESERVED} - {BASE})]
    settings = list(request.parameters.items())
    for model in request.models:
        own = dict(model.parameters)
        weight = own.get("weight")
        plain = isinstance(weight, int | float) and not isinstance(weight, bool)
        tail = f":{own.pop('weight')!r}" if plain else ""
        words += ["--add", _written(model.name, references[model.name], tail, RESERVED)]
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
        ("--shard-size", job.config.shard_size, SHARD_SIZE),
    ):
        if value != default:
            words += [flag, str(value)]
    return shlex.join([*words, "--out", output.name])


def _written(name: str, reference: str, tail: str, taken: Collection[str]) -> str:
    """Return `REFERENCE:WEIGHT`, with `NAME=` where it would be read or named otherwise."""
    plain = f"{reference}{tail}"
    weight = float(tail[1:]) if tail else None
    as_it_is = parse_model(plain) == ModelSpec(reference, None, weight) and name_of(reference, taken) == name
    return plain if as_it_is else f"{name}={plain}"
