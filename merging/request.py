"""What is asked for: which models, merged by which method with which parameters, into what.

The values of a method's parameters for one tensor, from settings that may vary by layer or by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.errors import CannotMerge
from merging.methods import Method, Parameter

AUTO, BASE, UNION = "auto", "base", "union"


@dataclass(frozen=True)
class InputModel:
    """A model that goes into a merge.

    Attributes:
        name: what messages and the model card call it.
        folder: a Hugging Face folder; its path may be given as text.
        fingerprint: of its content, for the model card.
        parameters: the method's parameters for this model; each value is a setting as of `MergeRequest`.
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

    A parameter's setting is a value; or a list of numbers, between which the layers interpolate, the first
    layer at the first; or a list of `{value, filter, layers}`, of which the first that fits holds: `filter`
    is a part of the tensor's name, `layers` a pair [first, one after the last].

    Attributes:
        method: name of a method (`merging.methods`).
        models: the models, apart from the base.
        base: the model that changes are counted from. Methods without a base leave it out of the
            arithmetic; its vocabulary may still be chosen.
        parameters: settings that hold for every model that has none of its own.
        tokenizer: whose vocabulary the result has: "base", the name of a model, "union" for every token of
            base and models, or "auto": the model that has every token of all models, else the union.
        settings: name of the parent whose chat template and generation settings the result has; None for
            the one that gives the tokenizer (of a union: the base, or else the first model).
        chat_template: a chat template (Jinja) to be taken instead of a parent's.
        dtype: data type of the result, such as "bfloat16"; None for the widest of the parents, per tensor.
        compute_dtype: data type of the arithmetic; None for float64 in task arithmetic, which makes it
            exact, and float32, or the parents' if that is wider, elsewhere; "stored" for the parents',
            as mergekit does unless told otherwise.
        seed: of random methods. Each tensor draws from its own stream, of the seed and its name, so that
            a result depends neither on the order of the work nor on which tensors are merged.
        about: what the models are to each other, for the model card.
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
    def parents(self) -> tuple[InputModel, ...]:
        """Base, if any, and models."""
        return ((self.base,) if self.base else ()) + self.models


_LAYER = re.compile(r"\.(\d+)\.")
_KEYS = {"value", "filter", "layers"}
_KINDS: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float)}


def layer_of(tensor: str) -> int | None:
    """Number of the layer that a tensor belongs to; None for embeddings and the like."""
    found = _LAYER.search(tensor)
    return int(found.group(1)) if found else None


def values(
    request: MergeRequest, method: Method, tensor: str, layers: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Values of the parameters for one tensor.

    Args:
        layers: how many layers the model has.

    Returns:
        Those of the method, and those of each model in the request's order.

    Raises:
        CannotMerge: a value is missing or out of its range; names the parameter.
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
    """DELLA drops with probabilities within epsilon of the density (arXiv 2406.11617, section 3.1)."""
    for values in per_model:
        density, epsilon = values["density"], values["epsilon"]
        if 0 < density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            raise CannotMerge(
                [f"density {density:g} ± epsilon {epsilon:g} is not between 0 and 1"],
                hint="Choose a smaller epsilon.",
            )


def unknown_parameters(request: MergeRequest, method: Method) -> Iterator[str]:
    """What is set but is no parameter of the method, or not one that a model may have of its own."""
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
    """Values that are missing everywhere, or out of their range wherever they hold."""
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
    """The first scope's value that applies to the tensor, else the default."""
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
    """What a setting says of a tensor; None where it says nothing."""
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
    """The value at a layer, interpolated linearly between values that stand at equal distances.

    As in mergekit, tensors that are in no layer have the first value, and a single layer the last.
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
