"""A quadratic landscape over the weights of a merge: best weight and front are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge_models import input_model

from merging.plan import Plan, read_inputs
from merging.request import MergeRequest
from merging.search import Goal, Limit, Space, search_space


@dataclass(frozen=True)
class Level:
    """A figure whose differences have a known error."""

    value: float
    error: float = 0.0

    count = None

    def rise_over(self, before: "Level") -> tuple[float, float]:
        return self.value - before.value, self.error

    def as_json(self) -> Mapping[str, float]:
        return {"value": self.value, "error": self.error}


class Quadratic:
    """Gain Σ (2·w/best - (w/best)²), at most 1 a model; rise Σ steep·w²."""

    def __init__(self, best: Mapping[str, float], steep: float = 1.0, error: float = 0.0) -> None:
        self.best, self.steep, self.error = best, steep, error
        self.asked: list[dict[str, float]] = []
        self.bases = 0
        self.key: Mapping[str, Any] = {"landscape": dict(best)}

    def base(self) -> dict[str, Level]:
        self.bases += 1
        return {"domain": Level(0.0, self.error), "general": Level(0.0, self.error)}

    def merged(self, plan: Plan) -> dict[str, Level]:
        weights = {model.name: model.parameters["weight"] for model in plan.request.models}
        self.asked.append(weights)
        shares = [weights[name] / self.best[name] for name in sorted(self.best)]
        return {
            "domain": Level(-sum(2 * share - share**2 for share in shares), self.error),
            "general": Level(self.steep * sum(weight**2 for weight in weights.values()), self.error),
        }

    def restore(self, data: Mapping[str, float]) -> Level:
        return Level(**data)


def one_weight(base: Path, other: Path, **settings: Any) -> tuple[Space, Any]:
    """The space of one model's weight, and its parents."""
    return open_weights(base, [other], **settings)


def open_weights(
    base: Path, others: list[Path], method: str = "task-arithmetic", **settings: Any
) -> tuple[Space, Any]:
    """The space of some models' weights, and its parents."""
    request = MergeRequest(method, tuple(input_model(other) for other in others), input_model(base))
    candidates = read_inputs(request)
    return search_space(request, candidates, **settings), candidates


def limit(most: float) -> Goal:
    """The largest gain with so much rise."""
    return Goal(limits=(Limit("general", most),))
