"""Check online mixing (`skill_it`) with the parts of the domain, and read the graph of its skills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cpt.errors import Problem, RecipeError
from cpt.sources import DOMAIN, PART
from cpt.stages.pretrain.mixture import epoch_bounds, part_of

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.monitor.skill_graph import SkillGraph
    from cpt.stages.pretrain.config import PretrainConfig

_KEY = "skill_it.graph"


def skill_setting_problems(config: PretrainConfig) -> list[Problem]:
    """Return what online mixing lacks in the stage's other settings, and a graph that cannot be read."""
    if config.skill_it is None:
        return []
    problems = []
    if config.mixture is None or len(config.mixture) != 1:
        message = "online mixing begins with one mixture of the domain's parts, and sets all later ones"
        hint = "Set `mixture: {temperature: 1}` (parts by size), or weights, without phases."
        problems.append(Problem(message, key="mixture", hint=hint))
    if config.tokens is None:
        message = "with online mixing it is not known before how often a part is read: set `tokens`"
        problems.append(Problem(message, key="tokens"))
    try:
        assert config.skill_it.graph_of([DOMAIN])
    except RecipeError as error:
        problems += error.problems
    return problems


def skill_problems(
    config: PretrainConfig, parts: Sequence[str], probed: Sequence[str] | None = None
) -> list[Problem]:
    """Return what is wrong in the graph with the parts of the domain.

    Args:
        probed: Names of the texts that are probed; None while the corpus is not made.
    """
    if config.skill_it is None or not config.mixture or skill_setting_problems(config):
        return []
    weights = config.mixture[0].weights
    trained = list(parts) if weights is None else [part for part in parts if weights.get(part)]
    if len(trained) < 2:
        there = f"trained on are {', '.join(trained)}" if trained else "the domain has no parts"
        message = f"online mixing needs two parts of the domain or more: {there}"
        return [Problem(message, key="mixture", hint="Give the domain's sources in the corpus a `part`.")]
    graph = config.skill_it.graph_of(parts)
    if set(graph.skills) != set(parts):
        message = (
            f"the graph is of {', '.join(graph.skills)}, and the parts of the domain are {', '.join(parts)}"
        )
        return [Problem(message, key=_KEY, hint="Learn one of these parts: cpt law skills.")]
    if not any(graph.edge(i, j) for i in trained for j in parts):
        message = "no part that is trained on has an edge: the mixture would never change"
        return [Problem(message, key=_KEY, hint="Leave `skill_it` out, or learn the graph again.")]
    return [] if probed is None else _unprobed(graph, probed)


def _unprobed(graph: SkillGraph, probed: Sequence[str]) -> list[Problem]:
    """Return a problem if the loss of some skill that others help is not measured."""
    missing = [skill for skill in graph.targets if f"{DOMAIN}{PART}{skill}" not in probed]
    if not missing:
        return []
    message = f"the loss of {', '.join(missing)} cannot be measured: no document of it is held out"
    hint = "Hold out more text in the corpus stage, or use a graph without edges to it."
    return [Problem(message, key="skill_it", hint=hint)]


def most_sequences(config: PretrainConfig, stream: TrainingStream) -> dict[str, int]:
    """Return the largest number of sequences that may be read of each source, earlier runs included."""
    return {name: int(bound * stream.size(name)) for name, bound in epoch_bounds(config, stream).items()}


def amount_problems(
    config: PretrainConfig, planned: TrainingStream, stream: TrainingStream, steps: int
) -> list[Problem]:
    """Return a problem if all parts together have too little text for a run.

    Args:
        planned: Stream as the recipe has it.
        stream: The same with as little replay as gates allow, which reads the domain fastest.
    """
    most = most_sequences(config, stream)
    trained = [name for name, weight in stream.weights.items() if weight]
    before, after = planned.consumed(0), stream.consumed(steps)
    needed = sum(after[name] - before[name] for name in trained)
    left = sum(max(0, most[name] - before[name]) for name in trained)
    if needed <= left:
        return []
    names = ", ".join(map(part_of, trained))
    message = (
        f"{steps:,} steps read {needed:,} sequences of the domain, and {names} have {left:,} by `epochs`"
    )
    return [Problem(message, key="epochs", hint="Train on fewer tokens, add text, or set more epochs.")]


def graph_references(config: PretrainConfig) -> list[str]:
    """Return the file of the graph, if there is one: its content belongs to the fingerprint."""
    return [] if config.skill_it is None or config.skill_it.graph is None else [config.skill_it.graph]


def graph_read_again(config: PretrainConfig, contents: Mapping[str, str]) -> PretrainConfig:
    """Return the settings with the graph as it is now, which must be the one that the plan was made with.

    Args:
        contents: Data reference -> fingerprint of its content.

    Raises:
        DataError: The file has changed since.
    """
    from cpt.references import unchanged

    if config.skill_it is None or config.skill_it.graph is None:
        return config
    fresh = type(config.skill_it).model_validate(config.skill_it.model_dump())
    with unchanged([config.skill_it.graph], contents):
        assert fresh.learned
    return config.model_copy(update={"skill_it": fresh})
