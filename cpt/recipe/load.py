"""Read a recipe and check everything that can be checked before it runs; report all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cpt import references
from cpt.errors import CptError, Problem, RecipeError
from cpt.recipe import overrides as overriding
from cpt.recipe.document import Document, Where, lookup, read
from cpt.recipe.explain import findings, mistaken_booleans
from cpt.recipe.schema import Item, Recipe, RecipeFile, Step, name_problems, read_items, upstream
from cpt.recipe.wiring import wire
from cpt.stages.base import Artifact, Stage, StageConfig
from cpt.training.distributed.environment import Environment

Registry = Mapping[str, Stage[Any]]


def load(
    path: Path,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    place: Environment | None = None,
) -> Recipe:
    """Read a recipe file, apply overrides, validate, wire, and run every stage's own checks.

    Args:
        overrides: Arguments `a.b=value`.
        registry: Stages by kind; all of cpt's by default.
        place: Hardware and processes of the run; one process on this machine by default.

    Raises:
        RecipeError: The recipe has problems; all of them, each with file, line and key.
    """
    if registry is None:
        from cpt.stages import stages

        registry = stages()
    document = read(path)
    as_written, _ = read_items(document, registry.keys())
    problems = overriding.apply(document, overrides, {item.name: item.where for item in as_written})
    items, more = read_items(document, registry.keys())
    problems += more
    file = _validate(document, RecipeFile, document.data, (), problems)
    configs = _configs(document, items, registry, problems)
    problems += name_problems(document, items)
    wired = wire(document, items, configs, registry)
    problems += wired.problems
    if file is not None:
        problems += _reference_problems(document, ("base",), [file.base])
    steps: dict[str, Step] = {}
    incomplete: set[str] = set()
    for item in items:
        if item.where in configs:
            step, lacking = _step(document, item, configs[item.where], registry[item.kind], wired.inputs)
            steps[step.name] = step
            if lacking:
                incomplete.add(step.name)
            find = partial(step.stage.check, step.located, {})
            problems += joined(lacking, placed_problems(document, step, find, incomplete=bool(lacking)))
    for step in steps.values():
        made_by = {role: upstream(step, role, steps) for role in step.inputs}
        find = partial(step.stage.check_environment, step.located, place or Environment(), made_by)
        not_here = placed_problems(document, step, find, incomplete=bool(incomplete))
        problems += [problem for problem in not_here if problem not in problems]
    if problems or file is None:
        raise RecipeError(sorted(problems, key=lambda problem: problem.line or 0))
    base = references.locate(file.base, document.folder)
    return Recipe(file.name, base, file.seed, tuple(steps.values()), document, tuple(overrides))


def stage_problems(document: Document, step: Step, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """Run a stage's own checks, and return the problems at their place in the recipe.

    Args:
        inputs: Role -> artifact, of the inputs that exist already.
    """
    return placed_problems(document, step, lambda: step.stage.check(step.located, inputs))


def placed_problems(
    document: Document, step: Step, find: Callable[[], list[Problem]], *, incomplete: bool = False
) -> list[Problem]:
    """Run one of a stage's checks, and return the problems at their place in the recipe.

    Args:
        incomplete: True if files that the recipe names are missing. A check that ends with an error then met
            one of them, which is a problem that is known already.
    """
    try:
        found = find()
    except RecipeError as error:
        found = error.problems
    except CptError as error:
        found = [] if incomplete else [Problem(error.message, hint=error.hint)]
    except OSError:
        if not incomplete:
            raise
        found = []
    return [_placed(document, step.where, problem) for problem in found]


def _placed(document: Document, stage: Where, problem: Problem) -> Problem:
    """Place a stage's problem in the recipe, with file and line. A problem in another file names that too."""
    keys: list[str | int] = []
    for key in (problem.key or "").split("."):
        holder = lookup(document.data, (*stage, *keys))
        keys.append(int(key) if isinstance(holder, list) and key.isdecimal() else key)
    where = (*stage, *(key for key in keys if key != ""))
    placed = document.problem(where, problem.message, problem.hint)
    if problem.file is not None:
        line = f":{problem.line}" if problem.line is not None else ""
        return document.problem(where, f"{problem.file}{line}: {problem.message}", problem.hint)
    return placed


def _validate(
    document: Document, model: type[BaseModel], data: dict[str, Any], where: Where, problems: list[Problem]
) -> Any:
    try:
        checked = model.model_validate(data)
        found = mistaken_booleans(checked, data)
    except ValidationError as error:
        checked, found = None, findings(error, model, data)
    for finding in found:
        problems.append(document.problem((*where, *finding.where), finding.message, finding.hint))
    return None if found else checked


def _configs(
    document: Document, items: Iterable[Item], registry: Registry, problems: list[Problem]
) -> dict[Where, StageConfig]:
    configs = {}
    for item in items:
        if item.known:
            config = _validate(document, registry[item.kind].Config, item.settings, item.where, problems)
            if config is not None:
                configs[item.where] = config
    return configs


def _step(
    document: Document,
    item: Item,
    config: StageConfig,
    stage: Stage[Any],
    wired: Mapping[Where, dict[str, str]],
) -> tuple[Step, list[Problem]]:
    """Return the step, and the problems of the references that it names."""
    named = stage.references(config)
    problems = _reference_problems(document, item.where, named)
    located = dict(_located(named, document.folder))
    moved = {reference: place for reference, place in located.items() if place != reference}
    data = _replace(config.model_dump(by_alias=True, exclude_unset=True), moved)
    step = Step(
        name=item.name,
        where=item.where,
        stage=stage,
        config=config,
        located=type(config).model_validate(data) if moved else config,
        inputs=wired.get(item.where, {}),
        references=located,
    )
    return step, problems


def _located(named: Iterable[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the references that are well-formed, with their located forms."""
    for reference in named:
        try:
            yield reference, references.locate(reference, folder)
        except RecipeError:
            continue  # one of the problems of the references


def _replace(value: Any, located: Mapping[str, str]) -> Any:
    """Replace the data references in a configuration by their located forms."""
    if isinstance(value, str):
        return located.get(value, value)
    if isinstance(value, dict):
        return {key: _replace(inner, located) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(inner, located) for inner in value]
    return value


def _reference_problems(document: Document, where: Where, names: Iterable[str]) -> list[Problem]:
    problems = []
    for reference in names:
        problem = references.check(reference, document.folder)
        if problem is not None:
            place = next(_places(lookup(document.data, where), reference, where), where)
            problems.append(document.problem(place, problem.message, problem.hint))
    return problems


def _places(value: Any, text: str, where: Where) -> Iterator[Where]:
    """Yield the places in the data where a text stands."""
    if value == text:
        yield where
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, text, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, text, (*where, index))


CORPUS = "corpus"


def heldout_problems(recipe: Recipe, steps: Iterable[Step], made: Mapping[str, Artifact]) -> list[Problem]:
    """Check the held-out text of existing corpora for what later stages need.

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
    """Return the step's corpus or, while that is not made, the existing corpus that it will be made of."""
    name = step.inputs.get(CORPUS)
    while name is not None and name not in made:
        name = recipe.step(name).inputs.get(CORPUS)
    return None if name is None else made[name]


def joined(problems: Sequence[Problem], more: Iterable[Problem]) -> list[Problem]:
    """Join problems, without those of `more` at a place that has one already: a lack is found twice."""
    places = {(problem.file, problem.line, problem.key) for problem in problems}
    return [*problems, *(p for p in more if (p.file, p.line, p.key) not in places)]


def _is_halved(recipe: Recipe, step: Step) -> bool:
    """Return True if a stage upstream of the step selects on held-out text."""
    names = set(step.inputs.values())
    for earlier in reversed(recipe.steps):
        if earlier.name in names:
            names |= set(earlier.inputs.values())
    return any(each.name in names and each.stage.selects_on_heldout(each.located) for each in recipe.steps)
