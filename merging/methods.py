"""List the merge methods: description, use, parameters. The arithmetic is mergekit's.

Every method that mergekit registers is listed, with mergekit's parameters and defaults; the descriptions are
ours. Names have hyphens; mergekit's underscores are understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from cpt.errors import CannotMerge

Base = Literal["required", "optional", "none"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        kind: "float", "int" or "bool".
        per_model: True if each model may have its own value.
        default: Default value; None where a value must be given, or where the parameter then has no effect.
        required: True if a value must be given.
        low: Smallest value that makes sense.
        high: Largest value that makes sense.
    """

    name: str
    kind: str
    per_model: bool
    default: float | int | bool | None
    required: bool
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True)
class Method:
    """A merge method.

    Attributes:
        name: Name with hyphens.
        title: Name for people.
        line: Description in one line.
        when: Use of the method.
        reference: Address of the paper or description.
        parameters: Parameters of the method.
        base: Need of a base model apart from the models.
        least: Smallest number of models, the base not counted.
        most: Largest number of models; None where there is no limit.
        random: True if the method draws random numbers, so that the seed matters.
        elementwise: True if each weight of the result depends on the same weight of the models only.
    """

    name: str
    title: str
    line: str
    when: str
    reference: str
    parameters: tuple[Parameter, ...]
    base: Base
    least: int
    most: int | None
    random: bool
    elementwise: bool

    @property
    def implementation(self) -> Any:
        """The method in mergekit."""
        from mergekit.merge_methods import registry

        return registry.get(self.name.replace("-", "_"))

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name; None if there is none."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


@dataclass(frozen=True)
class _Described:
    line: str
    when: str
    reference: str = ""
    random: bool = False
    elementwise: bool = False


_DESCRIBED: Mapping[str, _Described] = {
    "linear": _Described(
        "weighted average of the models",
        "checkpoints of one run, or runs that differ little (model soup)",
        elementwise=True,
    ),
    "slerp": _Described(
        "point on the arc between the base and one model, by the angle between them",
        "two models of equal standing, where an average would shrink the weights",
    ),
    "task-arithmetic": _Described(
        "base + Σ weight · (model - base)",
        "the default: adds what was learnt to any model of the same base; exact and easy to reason about",
        elementwise=True,
    ),
    "ties": _Described(
        "task arithmetic with small changes dropped and conflicting signs voted out",
        "several models whose changes contradict each other",
    ),
    "dare-linear": _Described(
        "task arithmetic with random changes dropped and the rest rescaled",
        "fine-tuned models with many redundant changes",
        random=True,
    ),
    "dare-ties": _Described(
        "DARE's random dropping with the sign vote of TIES",
        "as dare-linear, with several models whose changes contradict each other",
        random=True,
    ),
    "breadcrumbs": _Described(
        "task arithmetic with the smallest and the largest changes dropped",
        "many models at once; outliers that spoil task arithmetic",
    ),
    "breadcrumbs-ties": _Described(
        "breadcrumbs with the sign vote of TIES", "as breadcrumbs, with changes that contradict each other"
    ),
    "della": _Described(
        "random dropping that keeps large changes more often, then the sign vote of TIES",
        "as dare-ties, where low densities cost too much",
        random=True,
    ),
    "della-linear": _Described(
        "random dropping that keeps large changes more often", "as dare-linear, at low densities", random=True
    ),
    "model-stock": _Described(
        "models averaged, then moved towards the base by the angles between their changes",
        "two or more fine-tunings of one base on the same task; no weights to choose",
    ),
    "karcher": _Described(
        "mean on the sphere (Riemannian centre of mass) of any number of models",
        "what slerp does, for more than two models",
    ),
    "multislerp": _Described(
        "weighted mean on the sphere of any number of models, about the base if there is one",
        "what slerp does, for more than two models with weights",
    ),
    "nuslerp": _Described(
        "arc between two models, or between their changes if there is a base",
        "as slerp, between two task vectors",
    ),
    "nearswap": _Described(
        "takes the model's weight where it is near the base's, the base's elsewhere",
        "a trace of one model in another",
        elementwise=True,
    ),
    "sce": _Described(
        "changes weighted by their size, restricted to where they vary most, with the sign vote",
        "fusing models of different strengths without choosing weights",
    ),
    "arcee-fusion": _Described(
        "takes over only the changes that matter most to the output distribution of each row",
        "one model into a base, with as few changes as possible",
        random=True,
    ),
    "ram": _Described(
        "changes that one model alone made are kept whole, shared ones averaged",
        "models trained by reinforcement on different tasks",
        elementwise=True,
    ),
    "ramplus-tl": _Described(
        "as ram, with the changes that one model alone made amplified", "as ram, where averaging dilutes"
    ),
    "passthrough": _Described(
        "one model's weights unchanged, or scaled",
        "to scale one model's layers, or stack layers in a mergekit file",
        elementwise=True,
    ),
}

_REFERENCES = {
    "slerp": "Shoemake 1985, Animating rotation with quaternion curves",
    "nuslerp": "Shoemake 1985, applied to task vectors",
    "passthrough": "no paper; mergekit",
}

_RANGES = {
    "density": (0.0, 1.0),
    "gamma": (0.0, 1.0),
    "epsilon": (0.0, 1.0),
    "select_topk": (0.0, 1.0),
    "max_iter": (1.0, float("inf")),
    "tol": (0.0, float("inf")),
    "r": (0.0, float("inf")),
    "alpha": (0.0, float("inf")),
    "eps": (0.0, float("inf")),
}
_INERT = {"int8_mask"}
"""Parameters in mergekit that cannot change a result; they stay at their defaults and are not listed."""
_OWN_INERT = {"task-arithmetic": {"density", "rescale"}}
_OWN_RANGES = {("slerp", "t"): (0.0, 1.0), ("nearswap", "t"): (0.0, float("inf"))}


@cache
def methods() -> Mapping[str, Method]:
    """Return every merge method by name, in alphabetical order."""
    from mergekit.merge_methods import registry

    found = (_method(implementation.spec) for implementation in registry.registered_methods())
    return {method.name: method for method in sorted(found, key=lambda method: method.name)}


def find_method(name: str) -> Method:
    """Return the method of that name; hyphens and underscores are the same.

    Raises:
        CannotMerge: There is no such method.
    """
    method = methods().get(name.replace("_", "-"))
    if method is None:
        raise CannotMerge(
            [f"there is no merge method {name!r}"], hint=f"Choose from: {', '.join(methods())}."
        )
    return method


def _method(spec: Any) -> Method:
    """Return a method from mergekit's description of it."""
    from mergekit.merge_methods.base import BasePolicy

    name = spec.name.replace("_", "-")
    title = spec.pretty_name or spec.name
    said = _DESCRIBED.get(name, _Described(title, "see its reference", random=True))
    contract = spec.contract
    bases: dict[Any, Base] = {BasePolicy.REQUIRED: "required", BasePolicy.OPTIONAL: "optional"}
    base = bases.get(contract.base, "none")
    with_base = int(base == "required")
    least = max(1, contract.min_inputs - with_base, contract.min_non_base or 0)
    inert = _INERT | _OWN_INERT.get(name, set())
    limits = [contract.max_inputs - with_base] if contract.max_inputs is not None else []
    limits += [contract.max_non_base] if contract.max_non_base is not None else []
    return Method(
        name=name,
        title=title,
        line=said.line,
        when=said.when,
        reference=_REFERENCES.get(name) or spec.reference_url or "",
        parameters=tuple(
            _parameter(name, parameter) for parameter in spec.parameters if parameter.name not in inert
        ),
        base=base,
        least=least,
        most=min(limits, default=None),
        random=said.random,
        elementwise=said.elementwise,
    )


def _parameter(method: str, spec: Any) -> Parameter:
    from mergekit.merge_methods.base import ParameterScope

    low, high = _OWN_RANGES.get((method, spec.name), _RANGES.get(spec.name, (float("-inf"), float("inf"))))
    kinds = {bool: "bool", int: "int"}
    return Parameter(
        name=spec.name,
        kind=kinds.get(spec.value_type, "float"),
        per_model=spec.scope != ParameterScope.SHARED,
        default=None if spec.required else spec.default,
        required=spec.required,
        low=low,
        high=high,
    )
