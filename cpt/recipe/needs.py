"""What later stages need of held-out text, checked as soon as the corpus exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from cpt.errors import Problem
from cpt.recipe.load import placed_problems
from cpt.recipe.schema import Recipe, Step
from cpt.stages.base import Artifact

CORPUS = "corpus"


def heldout_problems(recipe: Recipe, steps: Iterable[Step], made: Mapping[str, Artifact]) -> list[Problem]:
    """Return what steps lack in the held-out text of corpora that are there.

    Args:
        made: Artifacts that exist, by the name of their stage.
    """
    problems: list[Problem] = []
    for step in steps:
        if (corpus := corpus_of(recipe, step, made)) is not None:
            find = partial(step.stage.heldout_problems, step.located, corpus, _is_halved(recipe, step))
            problems += placed_problems(recipe.document, step, find)
    return problems


def corpus_of(recipe: Recipe, step: Step, made: Mapping[str, Artifact]) -> Artifact | None:
    """Return the step's corpus; while it is not made, the one that it will be made of, if that is there."""
    name = step.inputs.get(CORPUS)
    while name is not None and name not in made:
        name = recipe.step(name).inputs.get(CORPUS)
    return None if name is None else made[name]


def joined(problems: Sequence[Problem], more: Iterable[Problem]) -> list[Problem]:
    """Return problems, and those of the others that are at no place where one is: a lack is found twice."""
    places = {(problem.file, problem.line, problem.key) for problem in problems}
    return [*problems, *(p for p in more if (p.file, p.line, p.key) not in places)]


def _is_halved(recipe: Recipe, step: Step) -> bool:
    """Return whether a stage that the step's inputs come from chooses on held-out text."""
    names = set(step.inputs.values())
    for earlier in reversed(recipe.steps):
        if earlier.name in names:
            names |= set(earlier.inputs.values())
    return any(each.name in names and each.stage.selects_on_heldout(each.located) for each in recipe.steps)
