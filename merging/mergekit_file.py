"""Translate mergekit's configuration into a merge request that gives the same result.

`no_equal` tells what cannot be translated: stacked layers, adapters, rows for single tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import CannotMerge
from cpt.models import tokenizer as files
from cpt.models.loading import settings
from merging.methods import Method, Parameter, find_method
from merging.request import BASE, UNION, InputModel, MergeRequest

_FEW = 20
"""Fewest characters of a chat template, by mergekit's own rule."""


def no_equal(config: Any, folders: Mapping[str, Path]) -> list[str]:
    """Return the parts of a configuration that have no equal here; none if the result is mergekit's.

    Args:
        config: A `MergeConfiguration`.
        folders: Folders of the models by how the configuration names them.
    """
    found = []
    if config.modules:
        found.append("`modules` merges the parts of a model apart")
    if any(model.lora for model in config.referenced_models()):
        found.append("`model+adapter` adds an adapter with mergekit's own rounding")
    if any(model.override_architecture for model in config.referenced_models()):
        found.append("`override_architecture` takes a model for one of another architecture")
    if config.tokenizer and (config.tokenizer.tokens or config.tokenizer.pad_to_multiple_of):
        found.append("`tokenizer` gives rows to single tokens, or pads the embedding")
    if config.slices and not _is_whole(config.slices, folders):
        found.append("`slices` stacks layers")
    return found


def _is_whole(slices: Sequence[Any], folders: Mapping[str, Path]) -> bool:
    """Return True if there is one slice, of every layer of every model."""
    return len(slices) == 1 and all(
        tuple(source.layer_range) == (0, _layers(folders[str(source.model)])) for source in slices[0].sources
    )


def check_slices(config: Any, folders: Mapping[str, Path]) -> None:
    """Refuse slices that take no layers, or layers that their model does not have.

    For the parts (`modules`) of a model only the order is checked: they may have other numbers of layers.

    Raises:
        CannotMerge: The problems name every such slice.
    """
    problems = []
    parts = [config, *(config.modules or {}).values()]
    for source in (source for part in parts for each in part.slices or () for source in each.sources):
        start, stop = source.layer_range
        name = str(source.model.model)
        layers = _layers(folders[name]) if config.slices else None
        if not 0 <= start < stop:
            problems.append(f"layer_range [{start}, {stop}] of {name} holds no layers")
        elif layers is not None and stop > layers:
            problems.append(f"layer_range [{start}, {stop}] of {name} goes beyond its {layers} layers")
    if problems:
        raise CannotMerge(problems, hint="A range is [first, last + 1], counted from 0.")


def _layers(folder: Path) -> int:
    return int(settings(folder).get_text_config().num_hidden_layers)


def request_of(
    config: Any, folders: Mapping[str, Path], names: Mapping[str, str], seed: int
) -> tuple[MergeRequest, list[str]]:
    """Return the request that gives mergekit's result, and settings of the configuration without effect.

    Args:
        config: A `MergeConfiguration` of which `no_equal` finds nothing.
        folders: Folders of the models by how the configuration names them.
        names: Names of the models in the merge, by the same keys.
        seed: Seed of random methods.

    Raises:
        CannotMerge: There is no such method, or no such chat template.
    """
    method = find_method(config.merge_method)
    output = config.slices[0] if config.slices else None
    base = (output.base_model if output else None) or config.base_model
    entries = list(output.sources if output else config.models)
    shared = [output.parameters if output else None, config.parameters]
    notes: list[str] = []
    for entry in entries:
        others = [name for name in entry.parameters or () if not _is_per_model(method, name)]
        notes += [f"{entry.model}: `{name}` has no effect on {method.name}" for name in others]
    models = [
        InputModel(names[str(entry.model)], folders[str(entry.model)], parameters=_own(entry, method))
        for entry in entries
        if method.base == "none" or entry.model != base
    ]
    if base is not None and method.base == "none" and base not in [entry.model for entry in entries]:
        models.append(InputModel(names[str(base)], folders[str(base)]))
    parameters = _merged(shared)
    notes += [
        f"`{name}` has no effect on {method.name}" for name in parameters if method.parameter(name) is None
    ]
    has_base = base is not None and method.base != "none"
    tokenizer = _tokenizer(config, names, base, has_base)
    return MergeRequest(
        method=method.name,
        models=tuple(models),
        base=InputModel(names[str(base)], folders[str(base)]) if has_base else None,
        parameters={
            name: _values(parameter, setting)
            for name, setting in parameters.items()
            if (parameter := method.parameter(name)) is not None
        },
        tokenizer=tokenizer,
        chat_template=chat_template(config.chat_template, list(folders.values())),
        dtype=_dtype(config.out_dtype or config.dtype),
        compute_dtype=_dtype(config.dtype) or "stored",
        seed=seed,
    ), notes


def _is_per_model(method: Method, name: str) -> bool:
    parameter = method.parameter(name)
    return parameter is not None and parameter.per_model


def _own(entry: Any, method: Method) -> dict[str, Any]:
    """Return a model's own parameters, as far as the method has them."""
    return {
        name: _values(parameter, _plain(setting))
        for name, setting in (entry.parameters or {}).items()
        if (parameter := method.parameter(name)) is not None and parameter.per_model
    }


def _merged(scopes: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Merge settings of several scopes; where the first has none for a tensor, the next one's holds."""
    found: dict[str, Any] = {}
    for scope in scopes:
        for name, setting in (scope or {}).items():
            plain = _plain(setting)
            if name not in found:
                found[name] = plain
            elif isinstance(found[name], list) and any(isinstance(each, dict) for each in found[name]):
                more = plain if isinstance(plain, list) and _conditional(plain) else [{"value": plain}]
                found[name] = [*found[name], *more]
    return found


def _plain(setting: Any) -> Any:
    """Return a setting as plain data; a condition alone is a list of one."""
    if isinstance(setting, list):
        return [_plain_condition(each) for each in setting]
    return [_plain_condition(setting)] if hasattr(setting, "value") else setting


def _plain_condition(each: Any) -> Any:
    if not hasattr(each, "value"):
        return each
    return {"value": each.value} | ({} if each.filter is None else {"filter": each.filter})


def _conditional(setting: Sequence[Any]) -> bool:
    return any(isinstance(each, dict) for each in setting)


def _values(parameter: Parameter, setting: Any) -> Any:
    """Return a setting with values as mergekit reads them: numbers may be text, such as `1e-4`."""
    if isinstance(setting, list):
        return [_values(parameter, each) for each in setting]
    if isinstance(setting, dict):
        return {**setting, "value": _values(parameter, setting["value"])}
    return read_value(parameter, setting)


def read_value(parameter: Parameter, value: Any) -> Any:
    """Return a value as mergekit reads it; unchanged if its type is wrong, which is found later."""
    kinds = {"float": float, "int": int, "bool": bool}
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kinds[parameter.kind]).validate_python(value)
    except ValidationError:
        return value


def _tokenizer(config: Any, names: Mapping[str, str], base: Any, has_base: bool) -> str:
    """Return the source of the result's vocabulary; by default mergekit takes the base's."""
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    if source == "union":
        return UNION
    if source not in (None, "base"):
        return names[str(source)]
    if base is None:
        return names[str((config.slices[0].sources if config.slices else config.models)[0].model)]
    return BASE if has_base else names[str(base)]


def _dtype(name: str | None) -> str | None:
    return name.removeprefix("torch.") if name else None


def chat_template(choice: str | None, folders: Sequence[Path]) -> str | None:
    """Return a chat template's text.

    Args:
        choice: Name of a template of mergekit's, `auto` (the one that most models have), or the text itself.
        folders: Folders of the models.

    Raises:
        CannotMerge: There is no such template.
    """
    if not choice:
        return None
    if choice == "auto":
        found = [template.strip() for folder in folders if (template := files.chat_template(folder))]
        return Counter(found).most_common(1)[0][0] if found else None
    if choice in built_in_templates():
        return _template_file(choice).read_text(encoding="utf-8")
    if len(choice) < _FEW or "{" not in choice:
        raise CannotMerge(
            [f"there is no chat template {choice!r}"],
            hint=f"Choose from: auto, {', '.join(built_in_templates())}; or write the template itself.",
        )
    return choice


def built_in_templates() -> list[str]:
    """Return the names of the chat templates that come with mergekit."""
    from importlib.resources import files as resources

    from mergekit._data import chat_templates

    return sorted(
        each.name.removesuffix(".jinja")
        for each in resources(chat_templates).iterdir()
        if each.name.endswith(".jinja")
    )


def _template_file(name: str) -> Any:
    from importlib.resources import files as resources

    from mergekit._data import chat_templates

    return resources(chat_templates).joinpath(f"{name}.jinja")


def written_parameters(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Find the parameters in a file: (place of the parameter, its name)."""
    yield from _parameters_at(data, ())
    for place in ("models", "slices"):
        for number, entry in enumerate(data.get(place) or ()):
            yield from _parameters_at(entry, (place, number))
            for inner, source in enumerate(entry.get("sources") or ()):
                yield from _parameters_at(source, (place, number, "sources", inner))


def _parameters_at(
    data: Mapping[str, Any], where: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for name in data.get("parameters") or {}:
        yield (*where, "parameters", name), name
