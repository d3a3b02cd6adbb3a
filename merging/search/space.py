"""Define the search space: the models' weights and density, by groups of layers if requested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from cpt.errors import CannotMerge
from merging.candidates import Candidate
from merging.methods import Method, find_method
from merging.request import MergeRequest, layer_of

Values = tuple[float, ...]
"""A point: one value for each dimension of the space."""

WEIGHT, DENSITY = "weight", "density"

NEAR = 0.01
"""Share of a dimension's range within which two values count as one."""


@dataclass(frozen=True)
class Dimension:
    """A value that a search chooses.

    Attributes:
        parameter: Name of the parameter.
        model: Name of the model with the parameter; None where all models share it.
        low: Smallest value.
        high: Largest value.
        layers: First layer and one after the last; None for all layers. The first group includes tensors
            outside of layers: embeddings and the last norm.
    """

    parameter: str
    model: str | None
    low: float
    high: float
    layers: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Name such as "weight", "weight of law", "weight of law, layers 0-14"."""
        whose = "" if self.model is None else f" of {self.model}"
        part = "" if self.layers is None else f", layers {self.layers[0]}-{self.layers[1] - 1}"
        return f"{self.parameter}{whose}{part}"

    def bound_at(self, value: float) -> Literal["lower", "upper"] | None:
        """Return the bound that a value is at, within a hundredth of the range."""
        near = NEAR * (self.high - self.low)
        if value - self.low <= near:
            return "lower"
        return "upper" if self.high - value <= near else None


@dataclass(frozen=True)
class AtBound:
    """A chosen value at the end of its range, where the best value may be beyond the range.

    Attributes:
        name: Name of the dimension.
        value: Chosen value.
        bound: "lower" or "upper".
        says: Meaning in words.
    """

    name: str
    value: float
    bound: str
    says: str


@dataclass(frozen=True)
class Space:
    """A request with open values.

    Attributes:
        request: Request with the given values; `request_at` fills in the others.
        dimensions: Open values.
        new_rows: True if a merge has tokens that the base lacks: their rows are the models' at every weight,
            so a merge with all weights 0 is not the base and is worth a trial.
    """

    request: MergeRequest
    dimensions: tuple[Dimension, ...]
    new_rows: bool = False

    @property
    def from_base(self) -> bool:
        """True if the smallest values give the base itself."""
        return self.request.method == "task-arithmetic" and self.is_nothing([d.low for d in self.dimensions])

    def request_at(self, values: Sequence[float]) -> MergeRequest:
        """Return the merge at a point."""
        models = tuple(
            replace(model, parameters={**model.parameters, **self._settings(model.name, values)})
            for model in self.request.models
        )
        shared = {**self.request.parameters, **self._settings(None, values)}
        return replace(self.request, models=models, parameters=shared)

    def at_bounds(self, values: Sequence[float]) -> list[AtBound]:
        """Return the values of a point that are at a bound."""
        pairs = zip(self.dimensions, values, strict=True)
        return [
            AtBound(dim.name, value, bound, self._says(dim, value, bound))
            for dim, value in pairs
            if (bound := dim.bound_at(value)) is not None
        ]

    def _says(self, dim: Dimension, value: float, bound: Literal["lower", "upper"]) -> str:
        edge, way = (dim.low, "lower") if bound == "lower" else (dim.high, "raise")
        said = f"{dim.name} is at its {bound} bound {edge:g}"
        parameter = find_method(self.request.method).parameter(dim.parameter)
        if lost := self._lost(dim, edge):
            left = "left out" if value == edge else "all but left out"
            part = "the merge" if dim.layers is None else "these layers of the merge"
            rows = ", but for the rows of new tokens" if self.new_rows and dim.layers is None else ""
            return f"{said}: {lost} is {left} of {part}{rows}"
        if parameter is not None and edge == (parameter.low if bound == "lower" else parameter.high):
            return f"{said}, the {'least' if bound == 'lower' else 'most'} that {self.request.method} takes"
        return f"{said}: {way} that bound to look further"

    def _lost(self, dim: Dimension, edge: float) -> str:
        """Return the model that a value at this edge leaves out of the merge; empty if there is none."""
        request = self.request
        if dim.parameter == WEIGHT and edge == 0:
            return dim.model or "every model"
        if find_method(request.method).name == "slerp" and request.base is not None:
            return {0.0: request.models[0].name, 1.0: request.base.name}.get(edge, "")
        return ""

    @property
    def centre(self) -> Values:
        """Point in the middle, at which a request can be checked."""
        return tuple((dim.low + dim.high) / 2 for dim in self.dimensions)

    def _settings(self, model: str | None, values: Sequence[float]) -> dict[str, Any]:
        """Return the settings of one model, or those that all share."""
        found: dict[str, Any] = {}
        own = [(dim, value) for dim, value in zip(self.dimensions, values, strict=True) if dim.model == model]
        for name in dict.fromkeys(dim.parameter for dim, _ in own):
            groups = [(dim.layers, float(value)) for dim, value in own if dim.parameter == name]
            if groups[0][0] is None:
                found[name] = groups[0][1]
            else:
                rules = [{"value": value, "layers": list(layers)} for layers, value in groups[1:] if layers]
                found[name] = [*rules, {"value": groups[0][1]}]
        return found

    def is_nothing(self, values: Sequence[float]) -> bool:
        """Return True if no model goes into the merge at a point: all weights are 0."""
        weights = [
            value for dim, value in zip(self.dimensions, values, strict=True) if dim.parameter == WEIGHT
        ]
        open_models = {dim.model for dim in self.dimensions if dim.parameter == WEIGHT}
        if self.new_rows:
            return False
        return {model.name for model in self.request.models} == open_models and not any(weights)


def search_space(
    request: MergeRequest,
    candidates: Sequence[Candidate] | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    density: tuple[float, float] | None = None,
    groups: int = 1,
) -> Space:
    """Return the search space of a request: the weights of the models that have none.

    For a method with a `t` instead of weights (slerp), the search chooses `t`.

    Args:
        request: Request with open values.
        candidates: Inputs of the merge; None while they do not exist: then groups of layers are ignored.
        bounds: Smallest and largest weight.
        density: Smallest and largest density, shared by all models; None: not searched.
        groups: Number of groups of equally many layers, each with values of its own.

    Raises:
        CannotMerge: Nothing is open, or the method has no such parameter.
    """
    method = find_method(request.method)
    problems: list[str] = []
    if not bounds[0] < bounds[1]:
        problems.append(f"the bounds {bounds[0]:g} to {bounds[1]:g} hold nothing to search")
    wanted = _open_weights(request, method, bounds)
    if not wanted:
        given = "every model has a weight" if method.parameter(WEIGHT) else "it has no weights"
        problems.append(f"nothing is left to search of {method.name}: {given}")
    if density is not None:
        problems += _density_problems(request, method, density)
        wanted.append(Dimension(DENSITY, None, *density))
    for dimension in wanted:
        problems += _range_problems(dimension, method)
    spans: list[tuple[int, int] | None] = [None]
    if candidates is not None and groups > 1:
        count = _layers(candidates[0])
        ends = [round(count * group / groups) for group in range(groups + 1)]
        spans = list(pairwise(ends))
        if groups > count:
            problems.append(f"{count} layers cannot be put into {groups} groups")
    if problems:
        raise CannotMerge(problems)
    dimensions = tuple(replace(dimension, layers=span) for dimension in wanted for span in spans)
    return Space(request, dimensions, candidates is not None and _brings_tokens(request, candidates))


def _brings_tokens(request: MergeRequest, candidates: Sequence[Candidate]) -> bool:
    """Return True if a merge onto a base has tokens that the base lacks."""
    if request.base is None or request.tokenizer == "base":
        return False
    base, *models = candidates
    return any(model.vocabulary.ids.keys() - base.vocabulary.ids.keys() for model in models)


def _layers(candidate: Candidate) -> int:
    return 1 + max((layer for name in candidate.sources if (layer := layer_of(name)) is not None), default=-1)


def _open_weights(request: MergeRequest, method: Method, bounds: tuple[float, float]) -> list[Dimension]:
    """Return one dimension for each weight that is not given."""
    weight = method.parameter(WEIGHT)
    if weight is not None and weight.per_model:
        open_ = [model.name for model in request.models if WEIGHT not in model.parameters]
        return [] if WEIGHT in request.parameters else [Dimension(WEIGHT, name, *bounds) for name in open_]
    names = [name for name in (WEIGHT, "t") if method.parameter(name) and name not in request.parameters]
    return [Dimension(names[0], None, *bounds)] if names else []


def _density_problems(request: MergeRequest, method: Method, density: tuple[float, float]) -> list[str]:
    if method.parameter(DENSITY) is None:
        return [f"{method.name} has no density"]
    if not density[0] < density[1]:
        return [f"the bounds {density[0]:g} to {density[1]:g} of the density hold nothing to search"]
    given = [model.name for model in request.models if DENSITY in model.parameters]
    given += ["all models"] if DENSITY in request.parameters else []
    return [f"the density of {', '.join(given)} is given and cannot be searched"] if given else []


def _range_problems(dimension: Dimension, method: Method) -> list[str]:
    parameter = method.parameter(dimension.parameter)
    if parameter is None or (parameter.low <= dimension.low and dimension.high <= parameter.high):
        return []
    allowed = f"{parameter.low:g} to {parameter.high:g}"
    return [f"{dimension.parameter} of {method.name} is searched outside of its range, {allowed}"]
