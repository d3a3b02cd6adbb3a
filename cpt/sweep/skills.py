"""Vary the mixture of a pretrain stage so that each part of its domain is trained on alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpt.errors import RecipeError, UsageError, did_you_mean
from cpt.recipe.load import load
from cpt.recipe.schema import Recipe
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.sweep.factors import Factor


def load_for_parts(file: Path, overrides: Sequence[str], stage: str) -> tuple[Recipe, list[str]]:
    """Return a recipe whose stage measures all parts, without online mixing, and its overrides.

    The graph that online mixing is to use need not be there: these runs are made to learn it.

    Raises:
        RecipeError: The recipe has problems.
        UsageError: There is no such pretrain stage.
    """
    more = [*overrides, f"{stage}.monitor.parts=true", f"{stage}.skill_it=null"]
    try:
        return load(file, more), more
    except RecipeError:
        parts_alone(load(file, overrides), stage)  # another kind of stage does not have these settings
        raise


def parts_alone(recipe: Recipe, stage: str) -> Factor:
    """Return the factor whose levels are mixtures of one part each.

    Raises:
        UsageError: There is no such pretrain stage, or its domain has less than two parts.
    """
    steps = {step.name: step for step in recipe.steps}
    if stage not in steps or not isinstance(steps[stage].config, PretrainConfig):
        known = [name for name, step in steps.items() if isinstance(step.config, PretrainConfig)]
        message = f"--skills: the recipe has no pretrain stage `{stage}`"
        raise UsageError(message, hint=did_you_mean(stage, known))
    corpora = [each for each in recipe.upstream(steps[stage], "corpus") if isinstance(each, CorpusConfig)]
    parts = corpora[-1].parts if corpora else []
    if len(parts) < 2:
        hint = "Give the sources of the corpus's domain a `part` each."
        raise UsageError("--skills: the domain has no parts to compare", hint=hint)
    levels = tuple({"weights": {part: int(part == alone) for part in parts}} for alone in parts)
    return Factor(key=f"{stage}.mixture", levels=levels)
