"""The configurations of a sweep: which there are, their overrides, and their check before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt.errors import Problem, RecipeError
from cpt.recipe.load import load
from cpt.recipe.schema import Recipe
from cpt.sweep.factors import Values, alike, grid, random_configurations, rounded_levels, spread
from cpt.sweep.state import SweepRequest


def overrides_of(request: SweepRequest, values: Values, seed: int, run: str) -> list[str]:
    """Return the overrides of one run, as on a command line."""
    return [*request.settings(values), f"seed={seed}", f"name={run}"]


def configurations(request: SweepRequest) -> list[Values] | None:
    """Return all configurations in the order in which they run; None if results decide (TPE)."""
    if request.method == "tpe":
        return None
    if request.method == "random":
        return random_configurations(request.factors, request.points or 0, request.seeds[0])
    found = grid(request.factors)
    if request.points is not None or request.seconds is not None:
        found = spread(found, request.factors)
    return found[: request.points]


def check(request: SweepRequest) -> list[str]:
    """Load the recipe with every configuration, before anything runs.

    Returns:
        Warnings of levels that are not trained as they are written; of TPE those of some configurations.

    Raises:
        RecipeError: Some have problems; lists each one once.
    """
    found: dict[tuple[Any, ...], Problem] = {}
    known = configurations(request)
    tried = known if known is not None else random_configurations(request.factors, 8, request.seeds[0])
    loaded: list[tuple[Values, Recipe]] = []
    for values in tried:
        own = overrides_of(request, values, request.seeds[0], request.name)
        try:
            loaded.append((values, load(Path(request.recipe), own)))
        except RecipeError as error:
            found |= {(each.file, each.line, each.key, each.message): each for each in error.problems}
    found |= {(each.key, each.message): each for each in alike(request.factors, loaded)}
    if found:
        raise RecipeError(list(found.values()))
    return list(rounded_levels(request.factors, loaded))
