"""Describe a merge request: models, method, parameters; find a parameter's value for one tensor."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.errors import CannotMerge
from merging.methods import Method, Parameter

STORED = "stored"
AUTO, BASE, UNION = "auto", "base", "union"
RESERVED = (AUTO, BASE, UNION)
"""Values of `MergeRequest.tokenizer` with a meaning of their own; no model gets such a name."""

_GGUF = re.compile(r"\.gguf$", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)


@dataclass(frozen=True)
class InputModel:
    """A model that goes into a merge.

    Attributes:
        name: Name of the model in messages and on the model card.
        folder: Hugging Face folder; its path may be given as text.
        fingerprint: Fingerprint of the model's content, for the model card.
        parameters: Settings of the method's parameters for this model, as of `MergeRequest`.
    """

    name: str
    folder: Path
    fingerprint: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))


@dataclass(frozen=True)
class MergeRequest:
    """A merge.

    The setting of a parameter is a value; or a list of numbers, between which the layers interpolate, the
    first layer at the first; or a list of `{value, filter, layers}`, of which the first that fits a tensor
    holds: `filter` is a part of the tensor's name, `layers` a pair [first, one after the last].

    Attributes:
        method: Name of a method (`merging.methods`).
        models: Models apart from the base.
        base: Model that changes are measured from. Methods without a base leave it out of the arithmetic;
            its vocabulary may still be chosen.
        parameters: Settings for every model that has none of its own.
        tokenizer: Source of the result's vocabulary: "base", the name of a model, "union" for every token of
            base and models, or "auto": the model that has every token of all models, else the union.
        settings: Name of the model whose chat template and generation settings the result has; None for the
            model that gives the tokenizer (of a union: the base, or else the first model).
        chat_template: Chat template (Jinja) instead of a model's.
        dtype: Data type of the result, such as "bfloat16"; None for the widest of the models, per tensor.
        compute_dtype: Data type of the arithmetic. None: float64 in task arithmetic, which makes it exact;
            elsewhere float32, or the models' if that is wider. "stored": the models', mergekit's default.
        seed: Seed of random methods. Each tensor draws from its own stream, of the seed and its name, so that
            a result depends neither on the order of the work nor on which tensors are merged.
        about: Sentence about the models for the model card.
    """

    method: str
    models: tuple[InputModel, ...]
    base: InputModel | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = AUTO
    settings: str | None = None
    chat_template: str | None = None
    dtype: str | None = None
    compute_dtype: str | None = None
    seed: int = 0
    about: str = ""

    @property
    def inputs(self) -> tuple[InputModel, ...]:
        """Base, if any, and models."""
        return ((self.base,) if self.base else ()) + self.models


def name_of(reference: str, taken: Collection[str]) -> str:
    """Return a name for a model: the end of its reference, numbered if that name is taken."""
    end = reference.partition("#sha256=")[0].replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^\w.-]+", "-", _GGUF.sub("", end.partition("@")[0])).strip("-.") or "model"
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (plain, *numbered) if name not in taken)


def model_names(
    models: Sequence[tuple[str | None, str]], base: tuple[str | None, str] | None = None
) -> tuple[str | None, tuple[str, ...]]:
    """Return a name for the base and for every model.

    Args:
        models: Given name, or None, and reference of every model.
        base: Given name, or None, and reference of the base; None if there is no base.
    """
    taken = {*RESERVED, *(name for name, _ in models if name)}
    base_name = None
    if base is not None:
        base_name = base[0] or name_of(base[1], taken - {BASE})
        taken.add(base_name)
    found = []
    for given, reference in models:
        found.append(given or name_of(reference, taken))
        taken.add(found[-1])
    return base_name, tuple(found)


def shard_bytes(size: str) -> int:
    """Return the bytes of a size in decimal units: `500MB`, `5GB`, `5_000_000`.

    Raises:
        ValueError: The text is no size.
    """
    match = _SIZE.fullmatch(size.replace("_", "").strip())
    if match is None or float(match[1]) * _UNITS[match[2].lower()] < 1:
        raise ValueError(f"{size!r} is no size; write it like 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


_LAYER = re.compile(r"\.(\d+)\.")
_KEYS = {"value", "filter", "layers"}
_KINDS: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float)}


def layer_of(tensor: str) -> int | None:
    """Return the number of the layer that a tensor belongs to; None for embeddings and the like."""
    found = _LAYER.search(tensor)
    return int(found.group(1)) if found else None


def values(
    request: MergeRequest, method: Method, tensor: str, layers: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the values of all parameters for one tensor.

    Args:
        tensor: Name of the tensor.
        layers: Number of the model's layers.

    Returns:
        Values for the method, and values for each model in the request's order.

    Raises:
        CannotMerge: A value is missing or out of its range; the message names the parameter.
    """
    shared, per_model = {}, [dict[str, Any]() for _ in request.models]
    for parameter in method.parameters:
        if not parameter.per_model:
            shared[parameter.name] = _value(parameter, [request.parameters], tensor, layers, "")
            continue
        for model, found in zip(request.models, per_model, strict=True):
            found[parameter.name] = _value(
                parameter, [model.parameters, request.parameters], tensor, layers, model.name
            )
    if method.name.startswith("della"):
        _check_della(per_model)
    return shared, per_model


def _check_della(per_model: Sequence[Mapping[str, Any]]) -> None:
    """Refuse drop probabilities, density ± epsilon, outside of 0 to 1 (arXiv 2406.11617, section 3.1)."""
    for values in per_model:
        density, epsilon = values["density"], values["epsilon"]
        if 0 < density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            raise CannotMerge(
                [f"density {density:g} ± epsilon {epsilon:g} is not between 0 and 1"],
                hint="Choose a smaller epsilon.",
            )


def unknown_parameters(request: MergeRequest, method: Method) -> Iterator[str]:
    """Report settings that are no parameter of the method, or one that a model cannot have of its own."""
    known = ", ".join(parameter.name for parameter in method.parameters) or "none"
    for name in request.parameters:
        if method.parameter(name) is None:
            yield f"{name} is no parameter of {method.name} (which has: {known})"
    for model in request.models:
        for name in model.parameters:
            parameter = method.parameter(name)
            if parameter is None:
                yield f"{model.name}: {name} is no parameter of {method.name} (which has: {known})"
            elif not parameter.per_model:
                yield f"{model.name}: {name} of {method.name} is one value for all models"


def wrong_values(request: MergeRequest, method: Method) -> Iterator[str]:
    """Report values that are missing everywhere, or out of their range wherever they hold."""
    for parameter in method.parameters:
        scopes = [(parameter.name, request.parameters)]
        if parameter.per_model:
            scopes += [(f"{parameter.name} of {model.name}", model.parameters) for model in request.models]
        for whose, scope in scopes:
            value = scope.get(parameter.name)
            if isinstance(value, bool | int | float | str):
                try:
                    _checked(parameter, value, whose)
                except CannotMerge as error:
                    yield error.message
        if parameter.required and parameter.name not in request.parameters:
            for model in request.models if parameter.per_model else ():
                if parameter.name not in model.parameters:
                    yield f"{parameter.name} of {model.name} is not given"
            if not parameter.per_model:
                yield f"{parameter.name} is not given"


def _value(
    parameter: Parameter, scopes: Sequence[Mapping[str, Any]], tensor: str, layers: int, model: str
) -> Any:
    """Return the value of the first scope that applies to the tensor, else the default."""
    whose = f"{parameter.name} of {model}" if model else parameter.name
    for scope in scopes:
        if parameter.name in scope:
            value = _setting(scope[parameter.name], tensor, layers, whose)
            if value is not None:
                return _checked(parameter, value, whose)
    if parameter.required:
        raise CannotMerge([f"{whose} is not given for {tensor}"])
    return parameter.default


def _setting(setting: Any, tensor: str, layers: int, whose: str) -> Any:
    """Return the value of a setting for a tensor; None where no entry fits."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, Sequence) or isinstance(setting, str):
        return setting
    if not any(isinstance(entry, Mapping) for entry in setting):
        return _between(setting, tensor, layers, whose)
    for entry in setting:
        if not isinstance(entry, Mapping) or "value" not in entry or not entry.keys() <= _KEYS:
            raise CannotMerge([f"{whose}: {entry!r} is not {{value, filter, layers}}"])
        if _fits(entry, tensor, whose):
            return _setting(entry["value"], tensor, layers, whose)
    return None


def _fits(entry: Mapping[str, Any], tensor: str, whose: str) -> bool:
    part, span = entry.get("filter"), entry.get("layers")
    if span is not None:
        if not (isinstance(span, Sequence) and len(span) == 2 and all(isinstance(end, int) for end in span)):
            raise CannotMerge([f"{whose}: layers {span!r} is not a pair [first, one after the last]"])
        layer = layer_of(tensor)
        if layer is None or not span[0] <= layer < span[1]:
            return False
    return part is None or part == "*" or part in tensor


def _between(values: Sequence[Any], tensor: str, layers: int, whose: str) -> Any:
    """Return the value at a layer, interpolated linearly between equidistant values.

    As in mergekit, tensors outside of layers have the first value, and a single layer the last.
    """
    if not values or not all(isinstance(value, int | float) for value in values):
        raise CannotMerge([f"{whose}: {list(values)!r} is not a list of numbers"])
    layer = layer_of(tensor)
    place = 0.0 if layer is None else layer / (layers - 1) if layers > 1 else 1.0
    scaled = place * (len(values) - 1)
    if isinstance(values[0], bool):
        return values[int(scaled)]
    first = int(scaled)
    part = scaled - first
    return (1 - part) * values[first] + part * values[min(len(values) - 1, first + 1)]


def _checked(parameter: Parameter, value: Any, whose: str) -> Any:
    right = isinstance(value, _KINDS[parameter.kind])
    if not right or (parameter.kind != "bool" and isinstance(value, bool)):
        raise CannotMerge([f"{whose} is {value!r}, not a value of type {parameter.kind}"])
    if not parameter.low <= value <= parameter.high or value in (float("inf"), float("-inf")):
        raise CannotMerge([f"{whose} is {value!r}; it must be a finite number{_range(parameter)}"])
    return float(value) if parameter.kind == "float" else value


def _range(parameter: Parameter) -> str:
    if parameter.high != float("inf"):
        return f" between {parameter.low:g} and {parameter.high:g}"
    return f" of at least {parameter.low:g}" if parameter.low != float("-inf") else ""
