"""Read a recipe and check everything that can be checked before it runs; report all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cpt import references
from cpt.errors import CptError, Problem, RecipeError
from cpt.recipe import overrides as overriding
from cpt.recipe.document import Document, Where, lookup, read
from cpt.recipe.explain import findings, mistaken_booleans
from cpt.recipe.items import Item, name_problems, read_items
from cpt.recipe.schema import Recipe, RecipeFile, Step
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
        overrides: `a.b=value` arguments.
        registry: stages by kind; all of cpt's by default.
        place: where the recipe is to run; one process on this machine by default.

    Raises:
        RecipeError: with every problem found, each with file, line and key.
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
    steps = []
    for item in items:
        if item.where in configs:
            found = _step(document, item, configs[item.where], registry[item.kind], wired.inputs)
            if isinstance(found, Step):
                problems += step_problems(document, found, {})
                steps.append(found)
            else:
                problems += found
    by_name = {step.name: step for step in steps}
    for step in steps:
        found_there = step.stage.check_environment(
            step.located, place or Environment(), _makers(step, by_name)
        )
        problems += [_placed(document, step.where, problem) for problem in found_there]
    if problems or file is None:
        raise RecipeError(sorted(problems, key=lambda problem: problem.line or 0))
    base = references.locate(file.base, document.folder)
    return Recipe(file.name, base, file.seed, tuple(steps), document, tuple(overrides))


def _makers(step: Step, steps: Mapping[str, Step]) -> dict[str, list[StageConfig]]:
    """By role, configurations of the stages that an input comes through in turn, the first one first."""
    return {role: _chain(role, maker, steps) for role, maker in step.inputs.items()}


def _chain(role: str, name: str, steps: Mapping[str, Step]) -> list[StageConfig]:
    """The stages that make a corpus, or a model; where several models go into a stage, those of the first."""
    chain: list[StageConfig] = []
    while (maker := steps.get(name)) is not None:
        chain.insert(0, maker.located)
        name = maker.inputs.get("corpus", "") if role == "corpus" else maker.model_from
    return chain


def step_problems(document: Document, step: Step, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """What the stage itself finds wrong, at its place in the recipe.

    Args:
        inputs: by role, those inputs that exist already.
    """
    return placed_problems(document, step, lambda: step.stage.check(step.located, inputs))


def placed_problems(document: Document, step: Step, find: Callable[[], list[Problem]]) -> list[Problem]:
    """What a stage finds wrong, by whichever of its methods, at its place in the recipe."""
    try:
        found = find()
    except RecipeError as error:
        found = error.problems
    except CptError as error:
        found = [Problem(error.message, hint=error.hint)]
    return [_placed(document, step.where, problem) for problem in found]


def _placed(document: Document, stage: Where, problem: Problem) -> Problem:
    """A stage's problem with the recipe's file and line, unless it points into another file itself."""
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
) -> Step | list[Problem]:
    named = stage.references(config)
    problems = _reference_problems(document, item.where, named)
    if problems:
        return problems
    located = {reference: references.locate(reference, document.folder) for reference in named}
    moved = {reference: place for reference, place in located.items() if place != reference}
    data = _replace(config.model_dump(by_alias=True, exclude_unset=True), moved)
    return Step(
        name=item.name,
        where=item.where,
        stage=stage,
        config=config,
        located=type(config).model_validate(data) if moved else config,
        inputs=wired.get(item.where, {}),
        references=located,
    )


def _replace(value: Any, located: Mapping[str, str]) -> Any:
    """The configuration with its data references replaced by their located forms."""
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
    """Where in the data a text stands."""
    if value == text:
        yield where
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, text, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, text, (*where, index))
