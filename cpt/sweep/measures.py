"""Read the changes that a run made: bits per byte of held-out texts, suites and recall of facts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cpt.errors import UsageError, did_you_mean
from cpt.recipe.journal import find_run
from cpt.recipe.reported_runs import reported
from cpt.recipe.schema import Recipe
from cpt.sources import DOMAIN, GENERAL, PART
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.evaluate.config import EvaluateConfig
from cpt.stages.pretrain.config import PretrainConfig

SUITE, RECALL = "suite:", "recall:"
"""Beginnings of the names of measures of which more is better: `suite:medical`, `recall:untrained`."""


def changes_of(folder: Path) -> dict[str, float]:
    """Return the change from the base of everything that a finished run measured.

    Held-out texts by name ("domain", "general") in bits per byte, suites and groups of the recall probe in
    shares of right answers.

    Raises:
        CptError: The run has measured nothing, or its results are damaged.
    """
    (run,) = reported([find_run(folder.parent, folder.name)], folder.parent)
    facts = run.facts
    found = {
        name: change
        for name, probe in facts.probes.items()
        if (change := probe.difference.value if probe.difference else probe.permanent) is not None
    }
    if facts.suites is not None:
        found |= {f"{SUITE}{name}": each.difference for name, each in facts.suites.averages.items()}
    return found | {f"{RECALL}{group}": task.difference.value for group, task in facts.recall.items()}


def more_is_better(measure: str) -> bool:
    """Return True for shares of right answers, False for losses."""
    return measure.startswith((SUITE, RECALL))


def require_measured(recipe: Recipe, measures: Iterable[str]) -> None:
    """Raise if a recipe's runs will not measure something, before hours of training show it.

    Raises:
        UsageError: The first such measure, and what is measured.
    """
    configs = [step.config for step in recipe.steps]
    corpora = [config for config in configs if isinstance(config, CorpusConfig)]
    texts = [DOMAIN, *([GENERAL] if any(corpus.general for corpus in corpora) else [])]
    for config in configs:
        if isinstance(config, PretrainConfig):
            texts += config.monitor.texts
            parts = [part for corpus in corpora for part in corpus.parts] if config.probes_parts else []
            texts += [f"{DOMAIN}{PART}{part}" for part in parts]
    suites = any(isinstance(config, EvaluateConfig) and config.suites for config in configs)
    for measure in measures:
        if measure in texts or (suites and measure.startswith(SUITE)):
            continue
        if measure.startswith(RECALL) and any(corpus.study for corpus in corpora):
            continue
        hint = did_you_mean(measure, texts)
        if measure.startswith(SUITE):
            hint = "Name suites in an evaluate stage: evaluate.suites."
        elif measure.startswith(RECALL):
            hint = "The recall of facts is measured with corpus.study."
        elif measure == GENERAL:
            hint = "Give the corpus stage `general`: text that is only measured."
        raise UsageError(f"the recipe's runs will not measure `{measure}`", hint=hint)
