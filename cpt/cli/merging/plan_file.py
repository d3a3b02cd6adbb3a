"""Read a merge from a YAML file: a plan of our own, or mergekit's configuration.

    base: HuggingFaceTB/SmolLM2-135M         # what changes are measured from; some methods have none
    method: ties                             # see cpt merge methods
    models:
      - {model: models/medical, name: medical, weight: 0.8, parameters: {density: 0.3}}
      - {model: HuggingFaceTB/SmolLM2-135M-Instruct, name: instruct, weight: 1.0}
    parameters: {density: 0.5}               # for every model that has none of its own
    tokenizer: medical                       # base, a model's name, union; by default the best one
    settings: instruct                       # chat template and generation settings

A plan has the settings of a recipe's merge stage, with references in place of stages, and a `seed`.

mergekit ignores keys and parameters that it does not know. Here a key that looks misspelt is refused, and a
note says of any other that it has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from cpt.cli.merging.job import MergeJob, validated
from cpt.cli.silence import silent
from cpt.errors import CannotMerge, Problem, RecipeError, did_you_mean, nearest_hint
from cpt.recipe.document import Document, Where
from cpt.recipe.explain import findings
from cpt.references import locate
from cpt.references.syntax import exists
from cpt.stages.merge.config import MergeConfig

if TYPE_CHECKING:
    from merging.request import MergeRequest

_NOT_IN_A_PLAN = {
    "average": "Use cpt merge average, or a recipe.",
    "search": "Use cpt merge search, or a recipe.",
    "gates": "Use cpt merge search --limit, or a recipe.",
    "name": None,
    "from": None,
}


def from_plan(document: Document, seed: int | None, shard_size: str | None) -> MergeJob:
    """Return the merge that a plan describes; a seed and a size on the command line take precedence.

    Raises:
        RecipeError: The problems name everything that is wrong, by line.
    """
    data: dict[str, Any] = dict(document.data)
    planned_seed = data.pop("seed", 0)
    problems = [*_recipe_keys(document, data), *_seed_problems(document, planned_seed)]
    problems += _method_problems(document, data)
    if problems:
        raise RecipeError(problems)
    problems += [document.problem(*found) for found in _take_unknown_parameters(data)]
    data["base"] = {"model": data["base"]} if isinstance(data.get("base"), str) else data.get("base")
    if shard_size is not None:
        data["shard_size"] = shard_size
    config, wrong = validated(_with_template_file(data, document.folder))
    for each in wrong:
        where = ("base",) if each.where[:1] == ("base",) else each.where
        problems.append(document.problem(where, each.message, each.hint))
    if config is None:
        raise RecipeError(problems)
    seed = int(planned_seed) if seed is None else seed
    return MergeJob(config, document.folder, seed, problems=tuple(problems), document=document)


def _recipe_keys(document: Document, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Report unknown keys, and keys that belong to a recipe, where stages make the models."""
    for key in _NOT_IN_A_PLAN.keys() & data.keys():
        yield document.problem((key,), f"unknown key `{key}`", _NOT_IN_A_PLAN[key])
    known = [field.alias or name for name, field in MergeConfig.model_fields.items()]
    for key in [key for key in data if key not in {*known, *_NOT_IN_A_PLAN}]:
        yield document.problem((key,), f"unknown key `{key}`", nearest_hint(str(key), known))
    if not (data.get("base") is None or isinstance(data["base"], str)):
        yield document.problem(("base",), "must be a reference", "Write it like `base: org/name`.")
    if not data.get("models"):
        yield document.problem(("models",), "name at least one model", "- {model: REFERENCE, weight: 1}")
    for number, model in enumerate(_entries(data)):
        if "from" in model:
            hint = "A plan has no stages: write `model: REFERENCE`."
            yield document.problem(("models", number, "from"), "unknown key `from`", hint)


def _entries(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = data.get("models")
    return [each if isinstance(each, dict) else {} for each in models] if isinstance(models, list) else []


def _seed_problems(document: Document, seed: Any) -> Iterator[Problem]:
    if isinstance(seed, bool) or not isinstance(seed, int):
        yield document.problem(("seed",), f"must be a number, not {str(seed).lower()}")


def _method_problems(document: Document, data: Mapping[str, Any]) -> Iterator[Problem]:
    from merging.methods import methods

    method = data.get("method")
    if isinstance(method, str) and method.replace("_", "-") not in methods():
        hint = did_you_mean(method, methods())
        yield document.problem(("method",), f"there is no merge method {method!r}", hint)


def _take_unknown_parameters(data: dict[str, Any]) -> Iterator[tuple[Where, str, str | None]]:
    """Remove parameters that the method does not have; report place, message and hint of each."""
    from merging.methods import find_method

    method = str(data.get("method", "task-arithmetic"))
    known = [parameter.name for parameter in find_method(method).parameters]
    models = data.get("models")
    if isinstance(models, list):
        data["models"] = [dict(each) if isinstance(each, dict) else each for each in models]
    places: list[tuple[Where, dict[str, Any]]] = [((), data)]
    places += [(("models", number), each) for number, each in enumerate(data.get("models") or ())]
    for where, holder in places:
        settings = holder.get("parameters") if isinstance(holder, dict) else None
        if not isinstance(settings, Mapping):
            continue
        for name in settings:
            if name not in known:
                hint = did_you_mean(name, known) or "It has no parameters."
                yield (*where, "parameters", name), f"`{name}` is no parameter of {method}", hint
        holder["parameters"] = {name: value for name, value in settings.items() if name in known}


def _with_template_file(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings with the path of a chat template's file made absolute."""
    template = data.get("chat_template")
    if isinstance(template, str) and exists(folder / template) and (folder / template).is_file():
        return data | {"chat_template": locate(template, folder)}
    return data


_OTHERS = {
    "experts": "mergekit-moe makes mixtures of experts; cpt merge does not.",
    "genome": "mergekit-evolve's files are not merges; cpt merge search looks for weights.",
}


@dataclass(frozen=True)
class MergekitFile:
    """mergekit's configuration.

    Attributes:
        config: A `MergeConfiguration`.
        notes: Keys without effect, in words.
    """

    document: Document
    config: Any
    notes: tuple[str, ...]

    @property
    def references(self) -> dict[str, str]:
        """Every model, by how it is written in the file, sorted."""
        from mergekit.common import ModelReference

        tokenizer = self.config.tokenizer
        sources = [self.config.tokenizer_source, tokenizer.source if tokenizer else None]
        models = self.config.referenced_models()
        models += [source for source in sources if isinstance(source, ModelReference)]
        return {str(each.model): str(each.model) for each in sorted(models, key=str)}


def from_mergekit(
    file: MergekitFile, folders: Mapping[str, Path], seed: int | None, shard_size: str | None
) -> MergeJob:
    """Return the merge that gives what mergekit would give.

    Args:
        folders: Folders of the models by how the file names them.

    Raises:
        CannotMerge: The merge has no equal here, or the file has mistakes.
    """
    from merging.mergekit_file import check_slices, no_equal, request_of
    from merging.request import model_names

    check_slices(file.config, folders)
    if reasons := no_equal(file.config, folders):
        command = f"mergekit-yaml {Path(file.document.file).name} OUT"
        raise CannotMerge(
            [f"{reason}: cpt merge has no equal of that" for reason in reasons],
            hint=f"Run mergekit itself: {command}.",
        )
    _, found = model_names([(None, reference) for reference in file.references])
    names = dict(zip(file.references, found, strict=True))
    request, notes = request_of(file.config, folders, names, seed or 0)
    references = {name: reference for reference, name in names.items()}
    data = _as_settings(request, references) | {"chat_template": file.config.chat_template}
    config, wrong = validated(data if shard_size is None else data | {"shard_size": shard_size})
    problems = [Problem(each.message, file=file.document.file, hint=each.hint) for each in wrong]
    if config is None:
        raise RecipeError(problems)
    return MergeJob(
        config,
        file.document.folder,
        request.seed,
        notes=(*file.notes, *notes),
        problems=tuple(problems),
        document=file.document,
    )


def _as_settings(request: MergeRequest, references: Mapping[str, str]) -> dict[str, Any]:
    """Return a request as the settings of a merge, without its chat template."""

    def model(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        own = {key: value for key, value in parameters.items() if key != "weight"}
        weight = {"weight": parameters["weight"]} if "weight" in parameters else {}
        return {"model": references[name], "name": name, "parameters": own} | weight

    base = request.base
    return {
        "method": request.method,
        "base": None if base is None else {"model": references[base.name], "name": base.name},
        "models": [model(each.name, each.parameters) for each in request.models],
        "parameters": dict(request.parameters),
        "tokenizer": request.tokenizer,
        "dtype": request.dtype,
        "compute_dtype": request.compute_dtype,
    }


def is_mergekits(data: Mapping[str, Any]) -> bool:
    """Return True for a file of mergekit's rather than a plan."""
    return bool(data.keys() & {"merge_method", "slices", "modules", *_OTHERS})


def read_mergekit(document: Document) -> MergekitFile:
    """Read mergekit's configuration.

    Raises:
        RecipeError: The problems name everything that mergekit would refuse or that looks misspelt, by line.
    """
    with silent():  # quantisation libraries that mergekit imports print what they lack
        from mergekit.config import MergeConfiguration

    for key, message in _OTHERS.items():
        if key in document.data:
            raise RecipeError([document.problem((key,), "this is no file of mergekit-yaml", message)])
    data = yaml.safe_load(Path(document.file).read_text(encoding="utf-8-sig"))
    unknown = list(_unknown(data))
    problems = [
        document.problem(where, f"unknown key `{where[-1]}`", hint) for where, hint in unknown if hint
    ]
    notes = [
        f"`{document.key(where)}` is nothing that mergekit knows: no effect"
        for where, hint in unknown
        if not hint
    ]
    config = None
    try:
        config = MergeConfiguration.model_validate(data)
        problems += _wrong_method(document, config)
    except ValidationError as error:
        found = findings(error, MergeConfiguration, data)
        problems += [document.problem(each.where, each.message, each.hint) for each in found]
    except (RuntimeError, ValueError) as error:
        problems.append(Problem(str(error), file=document.file))
    if problems:
        raise RecipeError(problems)
    return MergekitFile(document, config, tuple(notes))


def _wrong_method(document: Document, config: Any) -> Iterator[Problem]:
    """Report a method that does not exist, and parameters that look like misspellings of its own."""
    from merging.mergekit_file import written_parameters
    from merging.methods import methods

    method = methods().get(config.merge_method.replace("_", "-"))
    if method is None:
        hint = did_you_mean(config.merge_method, (name.replace("-", "_") for name in methods()))
        yield document.problem(("merge_method",), f"there is no merge method {config.merge_method!r}", hint)
        return
    known = {parameter.name for each in methods().values() for parameter in each.parameters} | {"int8_mask"}
    for where, name in written_parameters(document.data):
        if name not in known and (hint := nearest_hint(name, [each.name for each in method.parameters])):
            yield document.problem(where, f"`{name}` is no parameter of {config.merge_method}", hint)


def _unknown(data: Mapping[str, Any], where: Where = ()) -> Iterator[tuple[Where, str | None]]:
    """Find keys that mergekit does not know: place, and the key that may be meant."""
    from mergekit import config
    from mergekit.tokenizer.config import TokenizerConfig

    known = set(config.MergeConfiguration.model_fields)
    yield from _unknown_keys(data, known, where)
    if isinstance(data.get("tokenizer"), Mapping):
        yield from _unknown_keys(data["tokenizer"], set(TokenizerConfig.model_fields), (*where, "tokenizer"))
    yield from _unknown_entries(data, where)
    for name, module in (
        (data.get("modules") or {}).items() if isinstance(data.get("modules"), Mapping) else ()
    ):
        if isinstance(module, Mapping):
            yield from _unknown_keys(
                module, set(config.OutputModuleDefinition.model_fields), (*where, "modules", name)
            )
            yield from _unknown_entries(module, (*where, "modules", name))


def _unknown_entries(data: Mapping[str, Any], where: Where) -> Iterator[tuple[Where, str | None]]:
    from mergekit import config

    for key, kind in (
        ("models", config.InputModelDefinition),
        ("slices", config.OutputSliceDefinition),
        ("sources", config.InputSliceDefinition),
    ):
        entries = data.get(key)
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, Mapping):
                place = (*where, key, number)
                yield from _unknown_keys(entry, set(kind.model_fields), place)
                yield from _unknown_entries(entry, place)


def _unknown_keys(
    data: Mapping[str, Any], known: set[str], where: Where
) -> Iterator[tuple[Where, str | None]]:
    for key in data:
        if key not in known:
            yield (*where, key), nearest_hint(str(key), known)
