"""Connect each stage of a recipe to the earlier stages that feed it, and report every mistake in that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.errors import Problem, did_you_mean
from cpt.recipe.document import Document, Where
from cpt.recipe.schema import Item
from cpt.stages.base import BASE, Stage, StageConfig, UpstreamArtifact, WiringError


@dataclass(frozen=True)
class Wiring:
    """The inputs of each stage that could be wired (role -> earlier stage), by place, and the problems."""

    inputs: dict[Where, dict[str, str]]
    problems: list[Problem]


def wire(
    document: Document,
    items: Sequence[Item],
    configs: Mapping[Where, StageConfig],
    registry: Mapping[str, Stage[Any]],
) -> Wiring:
    """Connect the stages in the order of the recipe.

    Args:
        configs: Valid configurations by place. A stage without one is not wired, but what it would make
            counts as existing, so that one mistake does not cause others.
    """
    earlier = [UpstreamArtifact(BASE, frozenset({"model"}))]
    wired = Wiring({}, [])
    guessing = False
    for position, item in enumerate(items):
        problems = list(_from_problems(document, items, position))
        guessing = guessing or not item.known
        if item.where in configs and not problems and not guessing:
            problems += _wire_one(document, item, configs[item.where], registry[item.kind], earlier, wired)
        wired.problems.extend(problems)
        if item.known:
            stage, config = registry[item.kind], configs.get(item.where)
            chosen = config is not None and (
                stage.selects_on_heldout(config) or stage.selects_by_tasks(config)
            )
            inputs = wired.inputs.get(item.where, {})
            kinds = frozenset(stage.produces if config is None else stage.outputs(config))
            earlier.append(UpstreamArtifact(item.name, kinds, inputs, chosen))
    return wired


def _wire_one(
    document: Document,
    item: Item,
    config: StageConfig,
    stage: Stage[Any],
    earlier: Sequence[UpstreamArtifact],
    wired: Wiring,
) -> list[Problem]:
    try:
        inputs = stage.wire(config, tuple(earlier))
    except WiringError as error:
        key = error.problem.key
        where = (*item.where, *(key.split(".") if key else ()))
        return [document.problem(where, error.problem.message, error.problem.hint)]
    wired.inputs[item.where] = inputs
    if config.from_ is not None and config.from_ not in inputs.values():
        wanted = " or ".join(stage.consumes) or "anything"
        message = f"`{config.from_}` makes nothing that this stage uses ({wanted})"
        hint = "Name a stage that does, or leave `from` out to take the newest."
        return [document.problem((*item.where, "from"), message, hint)]
    return []


def _from_problems(document: Document, items: Sequence[Item], position: int) -> Iterator[Problem]:
    item = items[position]
    before = [BASE, *(other.name for other in items[:position])]
    later = {other.name: other for other in items[position:]}
    for where, name in _froms(item.settings, item.where):
        if name in before:
            continue
        if name == item.name:
            yield document.problem(where, f"`{name}` would be its own input", "Name an earlier stage.")
        elif name in later:
            yield document.problem(where, *_not_yet(item, later[name], items))
        else:
            message = f"there is no stage called `{name}`"
            yield document.problem(where, message, did_you_mean(name, before))


def _not_yet(item: Item, source: Item, items: Sequence[Item]) -> tuple[str, str]:
    back = _chain(source, item.name, items, (source.name,))
    if back:
        circle = " → ".join([item.name, *back])
        return f"circular: {circle}", "A stage can only use stages above it in the recipe."
    message = f"`{source.name}` comes later than `{item.name}`"
    return message, f"Move `{source.name}` above `{item.name}`, or name an earlier stage."


def _chain(item: Item, goal: str, items: Sequence[Item], seen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names from `item` along `from` to `goal`; empty if no chain leads there."""
    for _, name in _froms(item.settings, item.where):
        if name == goal:
            return (*seen, goal)
        source = next((other for other in items if other.name == name), None)
        if source is not None and name not in seen:
            rest = _chain(source, goal, items, (*seen, name))
            if rest:
                return rest
    return ()


def _froms(value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    """Yield every `from: name` in a stage's settings, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "from" and isinstance(inner, str):
                yield (*where, key), inner
            else:
                yield from _froms(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _froms(inner, (*where, index))
